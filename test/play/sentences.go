package play

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fernamt/client"
	"fernamt/wire/dialog"
	"fernamt/wire/sip"
)

// sentence is one thing that can be said in a play.
type sentence struct {
	pattern string
	means   string
	act     func(c *cue) error
}

// cue is a sentence's turn: the actor whom it names and the words that it leaves open.
type cue struct {
	context.Context
	t    *troupe
	a    *actor
	args map[string]string
}

// sentences is the whole language. The first pattern that fits counts.
var sentences = concat(stageSentences, phoneSentences, callSentences, seeSentences)

func concat(lists ...[]sentence) (all []sentence) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var stageSentences = []sentence{
	{"wait <time>", "lets time pass", func(c *cue) error {
		d, err := time.ParseDuration(c.args["time"])
		if err != nil {
			return fmt.Errorf("%q is no time, say 300ms or 2s", c.args["time"])
		}
		time.Sleep(d)
		return nil
	}},
	{"admin does <rest>", "runs an operator's command; {bob} stands for bob's address", operate},
	{"admin cannot do <rest>", "the same, and it must fail", func(c *cue) error {
		if operate(c) == nil {
			return errors.New("it could be done")
		}
		return nil
	}},
	{"server restarts", "stops the server in good order and starts it again", func(c *cue) error { return restart(c, c.t.Restart) }},
	{"server crashes", "kills the server and starts it again", func(c *cue) error { return restart(c, c.t.Crash) }},
}

func operate(c *cue) error {
	if c.t.Command == nil {
		return errors.New("no operator on this stage")
	}
	args := strings.Fields(c.args["rest"])
	for i, a := range args {
		if strings.HasPrefix(a, "{") && strings.HasSuffix(a, "}") {
			args[i] = strings.Trim(a, "{}") + "@" + c.t.Domain
		}
	}
	out, err := c.t.Command(c, args)
	if err != nil {
		return fmt.Errorf("%w %s", err, out)
	}
	return nil
}

func restart(c *cue, do func(context.Context) error) error {
	if do == nil {
		return errors.New("nobody can do that to the server of this stage")
	}
	return do(c)
}

var phoneSentences = []sentence{
	{"<actor> on <transport>", "has a phone that uses udp, tcp, tls, ws or wss", on},
	{"<actor> on <transport> at <role>", "the same, and speaks to another server role: director", on},
	{"<actor> has password <text>", "uses a password that may be wrong", func(c *cue) error {
		c.a.conf.Password = c.args["text"]
		if c.a.k != nil {
			c.a.k.SetPassword(c.args["text"])
		}
		return nil
	}},
	{"<actor> has no password", "sends no credentials", func(c *cue) error {
		c.a.conf.Password = ""
		return nil
	}},
	{"<actor> knows md5 only", "answers challenges with MD5 only", func(c *cue) error {
		c.a.conf.MD5Only = true
		return nil
	}},
	{"<actor> has q <q>", "registers with that preference, 0 to 1", func(c *cue) error {
		c.a.conf.Q = c.args["q"]
		return nil
	}},
	{"<actor> uses outbound", "registers with instance and reg-id, and comes back when its connection is cut", func(c *cue) error {
		c.a.conf.Outbound = true
		return nil
	}},
	{"<actor> speaks as <who>", "says in From that it is somebody else, with its own login", func(c *cue) error {
		k, err := c.a.phone()
		if err != nil {
			return err
		}
		k.SetAddress(c.args["who"] + "@" + c.t.Domain)
		return nil
	}},
	{"<actor> registers", "registers and is accepted", func(c *cue) error { return register(c, "200") }},
	{"<actor> registers and gets <code>", "registers and is answered so", func(c *cue) error { return register(c, c.args["code"]) }},
	{"<actor> registers for <time>", "registers for that long and is accepted", func(c *cue) error {
		d, err := time.ParseDuration(c.args["time"])
		if err != nil {
			return err
		}
		c.a.conf.Expires = d
		return register(c, "200")
	}},
	{"<actor> unregisters", "takes its binding back", func(c *cue) error {
		return c.code(func(k *client.Client) (int, error) { return k.Unregister(c) }, "200")
	}},
	{"<actor> unregisters everywhere", "takes back all bindings of its address", func(c *cue) error {
		return c.code(func(k *client.Client) (int, error) { return k.UnregisterAll(c) }, "200")
	}},
	{"<actor> has <n> bindings", "asks the registrar how many bindings its address has", bindings},
	{"<actor> has <n> binding", "the same", bindings},
	{"<actor> disconnects", "loses its connections, as by a cut cable", func(c *cue) error {
		k, err := c.a.phone()
		if err == nil {
			k.Disconnect()
		}
		return err
	}},
	{"<actor> is switched off", "is gone without a word", func(c *cue) error {
		if c.a.k != nil {
			c.a.k.Close()
			c.a.k, c.a.started = nil, false
		}
		return nil
	}},
	{"<actor> sends MESSAGE <text> to <who>", "writes to somebody; 200 and 202 are success", func(c *cue) error { return write(c, "200 202") }},
	{"<actor> sends MESSAGE <text> to <who> and gets <code>", "writes to somebody and is answered so", func(c *cue) error { return write(c, c.args["code"]) }},
	{"<actor> sends OPTIONS to <who> and gets <code>", "asks what somebody can do", func(c *cue) error { return ask(c, "OPTIONS") }},
	{"<actor> sends OPTIONS to <who>", "the same, answered 200", func(c *cue) error { return ask(c, "OPTIONS") }},
	{"<actor> sends <method> to <who> and gets <code>", "sends a bare request outside any call", func(c *cue) error { return ask(c, c.args["method"]) }},
	{"<actor> subscribes to <event> of <who>", "subscribes for ten minutes", func(c *cue) error {
		k, err := c.a.phone()
		if err != nil {
			return err
		}
		uri, err := c.t.uri(c.args["who"])
		if err == nil {
			c.a.subs = append(c.a.subs, k.Subscribe(uri, c.args["event"], "", 10*time.Minute))
		}
		return err
	}},
	{"<actor> offers <event>", "lets others subscribe to that event at its phone", func(c *cue) error {
		c.a.conf.Events = append(c.a.conf.Events, c.args["event"])
		return nil
	}},
}

func on(c *cue) error {
	if c.a.k != nil {
		return errors.New("this phone is in use already")
	}
	t := sip.TransportOf([]byte(c.args["transport"]))
	if t == 0 {
		return fmt.Errorf("no transport %q", c.args["transport"])
	}
	c.a.conf.Transport, c.a.role = t, c.args["role"]
	return nil
}

// code does something that has an answer and holds it against the codes in want.
func (c *cue) code(do func(k *client.Client) (int, error), want string) error {
	k, err := c.a.phone()
	if err != nil {
		return err
	}
	got, err := do(k)
	if err != nil {
		return err
	}
	for _, w := range strings.Fields(want) {
		if w == strconv.Itoa(got) {
			return nil
		}
	}
	return fmt.Errorf("%s got %d %s, not %s", c.a.name, got, sip.ReasonOf(got), want)
}

func register(c *cue, want string) error {
	c.a.started = true
	return c.code(func(k *client.Client) (int, error) { return k.Register(c) }, want)
}

func bindings(c *cue) error {
	k, err := c.a.phone()
	if err != nil {
		return err
	}
	list, err := k.Registered(c)
	if err == nil && strconv.Itoa(len(list)) != c.args["n"] {
		err = fmt.Errorf("%s has %d: %s", c.a.person, len(list), strings.Join(list, ", "))
	}
	return err
}

func write(c *cue, want string) error {
	uri, err := c.t.uri(c.args["who"])
	if err != nil {
		return err
	}
	return c.code(func(k *client.Client) (int, error) { return k.Message(c, uri, c.args["text"]) }, want)
}

func ask(c *cue, method string) error {
	uri, err := c.t.uri(c.args["who"])
	if err != nil {
		return err
	}
	want := c.args["code"]
	if want == "" {
		want = "200"
	}
	return c.code(func(k *client.Client) (int, error) {
		m, err := k.Do(c, k.Ask(method, uri))
		if err != nil {
			return 0, err
		}
		return m.StatusCode(), nil
	}, want)
}

var callSentences = []sentence{
	{"<actor> calls <who>", "begins a call", func(c *cue) error { return invite(c, false) }},
	{"<actor> calls <who> without offer", "begins a call and lets the callee make the offer", func(c *cue) error { return invite(c, true) }},
	{"<actor> rings", "says 180 to its newest call", func(c *cue) error {
		return c.call("", func(x *dialog.Call) { x.Ring(180, nil) })
	}},
	{"<actor> rings early", "says 183 with its media, to be acknowledged by PRACK", func(c *cue) error {
		return c.call("", func(x *dialog.Call) { x.Ring(183, c.a.k.Media()) })
	}},
	{"<actor> changes its media", "offers its media again by UPDATE", func(c *cue) error {
		return c.call("", func(x *dialog.Call) { x.Update(x.Info().LocalSDP.Next()) })
	}},
	{"<actor> answers", "accepts its newest call", func(c *cue) error { return c.call("", func(x *dialog.Call) { c.a.k.Answer(x) }) }},
	{"<actor> declines", "refuses its newest call with 603", func(c *cue) error { return c.call("", func(x *dialog.Call) { x.Reject(603) }) }},
	{"<actor> declines with <code>", "refuses its newest call so", func(c *cue) error {
		code, err := strconv.Atoi(c.args["code"])
		if err != nil || code < 300 || code > 699 {
			return fmt.Errorf("%q refuses nothing", c.args["code"])
		}
		return c.call("", func(x *dialog.Call) { x.Reject(code) })
	}},
	{"<actor> cancels", "gives up its newest call before it is answered", func(c *cue) error { return c.call("", (*dialog.Call).Hangup) }},
	{"<actor> hangs up", "ends its newest call", func(c *cue) error { return c.call("", (*dialog.Call).Hangup) }},
	{"<actor> hangs up on <who>", "ends its call with somebody", func(c *cue) error { return c.call(c.args["who"], (*dialog.Call).Hangup) }},
	{"<actor> holds <who>", "puts somebody on hold", func(c *cue) error {
		return c.call(c.args["who"], func(x *dialog.Call) { x.Hold(true) })
	}},
	{"<actor> resumes <who>", "takes somebody off hold", func(c *cue) error {
		return c.call(c.args["who"], func(x *dialog.Call) { x.Hold(false) })
	}},
	{"<actor> presses <keys>", "sends digits by INFO in its newest call", func(c *cue) error {
		return c.call("", func(x *dialog.Call) { c.a.k.Digits(x, c.args["keys"]) })
	}},
	{"<actor> transfers <who> to <whom>", "blind transfer by REFER", func(c *cue) error {
		uri, err := c.t.uri(c.args["whom"])
		if err != nil {
			return err
		}
		return c.call(c.args["who"], func(x *dialog.Call) { x.Refer(uri, "", false) })
	}},
	{"<actor> connects <who> with <whom>", "attended transfer: joins the two that it has calls with", func(c *cue) error {
		second, err := c.a.call(c.args["whom"])
		if err != nil {
			return err
		}
		i := second.Info()
		return c.call(c.args["who"], func(x *dialog.Call) { x.Refer(i.Target, i.Replaces, false) })
	}},
	{"<actor> has <n> calls", "so many calls are up or being set up", func(c *cue) error { return counts(c) }},
	{"<actor> has no call", "there is none", func(c *cue) error {
		c.args["n"] = "0"
		return counts(c)
	}},
}

func invite(c *cue, late bool) error {
	k, err := c.a.phone()
	if err != nil {
		return err
	}
	uri, err := c.t.uri(c.args["who"])
	if err != nil {
		return err
	}
	if late {
		k.InviteLate(uri)
	} else {
		k.Invite(uri)
	}
	return nil
}

func (c *cue) call(with string, do func(*dialog.Call)) error {
	x, err := c.a.call(with)
	if err == nil {
		do(x)
	}
	return err
}

// counts waits until the actor has so many calls: they end on their own time.
func counts(c *cue) error {
	k, err := c.a.phone()
	if err != nil {
		return err
	}
	for {
		got := len(k.Calls())
		if strconv.Itoa(got) == c.args["n"] {
			return nil
		}
		select {
		case <-c.Done():
			return fmt.Errorf("%s has %d calls", c.a.name, got)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
