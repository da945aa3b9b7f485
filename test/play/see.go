package play

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fernamt/client"
)

// What can be seen, by the words of a play: the names that a client gives it, and the text
// that must stand with it.
var sights = map[string]struct{ what, text string }{
	"INVITE": {"invite", ""}, "CANCEL": {"cancelled", ""}, "ACK": {"confirmed", ""}, "BYE": {"ended", "bye"},
	"MESSAGE": {"message", ""}, "INFO": {"inside", "INFO"}, "REFER": {"refer", ""}, "OPTIONS": {"options", ""},
	"SUBSCRIBE": {"subscribe", ""}, "NOTIFY": {"notify", ""}, "hold": {"updated", "hold"}, "resume": {"updated", "active"},
	"disconnection": {"disconnected", ""}, "registration": {"registered", ""}, "end": {"over", ""},
}

var seeSentences = []sentence{
	{"<actor> hears <code>", "is answered so in its call; provisional answers before it do not matter", hears},
	{"<actor> hears <code> or <other>", "is answered the one or the other", hears},
	{"<actor> hears <code> for <method>", "is answered so for a request inside its call: INVITE is hold and resume", heardFor},
	{"<actor> hears of transfer <code>", "is told how the transfer that it asked for ended", func(c *cue) error {
		return c.expect("transfer with "+c.args["code"], func(s client.Seen) (match, skip bool) {
			return s.What == "transfer" && s.Text == "last" && strconv.Itoa(s.Code) == c.args["code"], s.Text != "last"
		}, "transfer")
	}},
	{"<actor> sees <what>", "something reaches the phone: INVITE CANCEL ACK BYE MESSAGE INFO REFER NOTIFY hold resume ...", sees},
	{"<actor> sees <what> from <who>", "the same, from somebody", sees},
	{"<actor> sees <what> <text>", "the same, with that text", sees},
	{"<actor> sees <what> <text> from <who>", "the same, with that text from somebody", sees},
	{"<actor> does not see <what>", "it has not come, and does not come within 300ms", missesFor},
	{"<actor> does not see <what> for <time>", "it has not come and does not come within that time", missesFor},
}

// expect waits for the first thing of a kind that no sentence has used up. It must match;
// what may be skipped is used up on the way.
func (c *cue) expect(want string, judge func(s client.Seen) (match, skip bool), kinds ...string) error {
	k, err := c.a.phone()
	if err != nil {
		return err
	}
	var wrong error
	_, err = k.Wait(c, 0, func(s client.Seen) bool {
		if c.a.used[s.N] || !contains(kinds, s.What) {
			return false
		}
		match, skip := judge(s)
		if match || skip {
			c.a.used[s.N] = true
		}
		if !match && !skip {
			wrong = fmt.Errorf("%s saw %v instead of %s", c.a.name, s, want)
			return true
		}
		return match
	})
	if wrong != nil {
		return wrong
	}
	if err != nil {
		return fmt.Errorf("%s did not see %s, but %s", c.a.name, want, c.a.rest())
	}
	return nil
}

// rest tells what was seen and not used.
func (a *actor) rest() string {
	var list []string
	for _, s := range a.k.Since(0) {
		if !a.used[s.N] {
			list = append(list, s.String())
		}
	}
	if list == nil {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func hears(c *cue) error {
	want := c.args["code"]
	if o := c.args["other"]; o != "" {
		want += " or " + o
	}
	return c.expect(want, func(s client.Seen) (match, skip bool) {
		got := strconv.Itoa(s.Code)
		return got == c.args["code"] || got == c.args["other"], s.What == "progress"
	}, "progress", "answered", "failed")
}

func heardFor(c *cue) error {
	return c.expect(c.args["code"]+" for "+c.args["method"], func(s client.Seen) (match, skip bool) {
		return s.Text == c.args["method"] && strconv.Itoa(s.Code) == c.args["code"], s.Text != c.args["method"]
	}, "reply")
}

func sees(c *cue) error {
	sight, ok := sights[c.args["what"]]
	if !ok {
		return fmt.Errorf("%q cannot be seen", c.args["what"])
	}
	want := c.args["what"]
	text, exact := c.args["text"]
	if exact {
		want += fmt.Sprintf(" %q", text)
	}
	if who := c.args["who"]; who != "" {
		want += " from " + who
	}
	return c.expect(want, func(s client.Seen) (match, skip bool) {
		if sight.text != "" && s.Text != sight.text {
			return false, s.What == "ended" || s.What == "inside" || s.What == "updated"
		}
		user, _, _ := strings.Cut(s.From, "@")
		return (c.args["who"] == "" || c.args["who"] == user) && (!exact || seen(s, text)), false
	}, sight.what)
}

// seen says whether text is what came. A NOTIFY has it somewhere in its body.
func seen(s client.Seen, text string) bool {
	if s.What == "notify" {
		return strings.Contains(s.Text, text)
	}
	return s.Text == text
}

func missesFor(c *cue) error {
	sight, ok := sights[c.args["what"]]
	if !ok {
		return fmt.Errorf("%q cannot be seen", c.args["what"])
	}
	d := 300 * time.Millisecond
	if t := c.args["time"]; t != "" {
		var err error
		if d, err = time.ParseDuration(t); err != nil {
			return fmt.Errorf("%q is no time", t)
		}
	}
	if _, err := c.a.phone(); err != nil {
		return err
	}
	time.Sleep(d)
	for _, s := range c.a.k.Since(0) {
		if s.What == sight.what && !c.a.used[s.N] && (sight.text == "" || s.Text == sight.text) {
			return errors.New(c.a.name + " did: " + s.String())
		}
	}
	return nil
}
