package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fernamt/test/is"
	"fernamt/wire/sip"
)

// A request that nobody took may be taken over, whether it was kept or not.
func TestLost(t *testing.T) {
	const silent = 0
	for _, c := range []struct {
		name   string
		says   []int // what each phone answers, -1: its link is dead
		groups []int
		take   string // the codes that are taken over
		asked  string // what Lost was asked
		up     string
	}{
		{"silent", []int{silent}, nil, "408", "408", "202 Accepted"},
		{"dead link", []int{-1}, nil, "480", "480", "202 Accepted"},
		{"refused", []int{480}, nil, "480", "480", "202 Accepted"},
		{"below in vain", []int{408}, nil, "408", "408", "202 Accepted"},
		{"503 of a phone", []int{503}, nil, "503", "503", "202 Accepted"},
		{"taken by the phone", []int{200}, nil, "480", "", "200 OK"},
		{"not wanted", []int{404}, nil, "480", "404", "404 Not Found"},
		{"silent, not wanted", []int{silent}, nil, "480", "408", ""},
		{"two, silent and dead", []int{silent, -1}, nil, "408 480", "480", "202 Accepted"},
		{"two, one takes it", []int{silent, 200}, nil, "408", "", "200 OK"},
		{"two, one refuses", []int{silent, 415}, nil, "408", "415", "415 Unsupported Media Type"},
		{"one after the other", []int{silent, silent}, []int{0, 1}, "408", "408", "202 Accepted"},
	} {
		run(t, func(t *testing.T, s *site) {
			ph := phones(s, len(c.says), c.groups...)
			inner, asked := s.plan, ""
			s.plan = func() *Plan {
				p := inner()
				for i := range p.Targets {
					p.Targets[i].Ring, p.Targets[i].Gone, p.Targets[i].Ref = 5*time.Second, 480, "bob"
				}
				p.Lost = func(x *Context, m *sip.Message, at *Target, code int) bool {
					asked += fmt.Sprint(code)
					is.Equal(t, m.Count(sip.HVia), 1, c.name)
					is.Equal(t, string(m.Body()), "hello", c.name)
					is.Equal(t, at.Ref, any("bob"), c.name)
					if !strings.Contains(c.take, fmt.Sprint(code)) {
						return false
					}
					own := m.Clone()
					go x.Reply(own, 202, nil)
					return true
				}
				return p
			}
			for i, code := range c.says {
				if code == -1 {
					ph[i].err = errors.New("gone")
				}
			}
			m := request(t, s.up, "MESSAGE", 1)
			m.SetBody("text/plain", []byte("hello"))
			s.layer.Receive(parse(t, s.up, string(m.AppendTo(nil))))
			for i, code := range c.says {
				if code > 0 {
					s.answer(t, ph[i], last(t, ph[i]), code)
				}
			}
			time.Sleep(11 * time.Second)
			synctest.Wait()
			is.Equal(t, asked, c.asked, c.name)
			is.Equal(t, s.up.firsts(), c.up, c.name)
			for _, w := range ph {
				w.take()
			}
			time.Sleep(time.Minute)
			is.Equal(t, s.layer.Stats().Servers, 0, c.name)
		})
	}
}

// A phone that says 100 is alive: it is waited for, and answers itself.
func TestLostNotWhileAlive(t *testing.T) {
	run(t, func(t *testing.T, s *site) {
		ph := phones(s, 1)
		inner := s.plan
		s.plan = func() *Plan {
			p := inner()
			p.Targets[0].Ring = 5 * time.Second
			p.Lost = func(*Context, *sip.Message, *Target, int) bool { t.Error("asked"); return false }
			return p
		}
		s.layer.Receive(request(t, s.up, "MESSAGE", 1))
		got := last(t, ph[0])
		time.Sleep(4 * time.Second)
		s.answer(t, ph[0], got, 100)
		time.Sleep(20 * time.Second)
		s.answer(t, ph[0], got, 200)
		is.Equal(t, s.up.firsts(), "200 OK")
	})
}

// Whoever is asked for more learns whether a phone of this round has said anything.
func TestHeard(t *testing.T) {
	for _, c := range []struct {
		name  string
		says  int
		heard string
	}{
		{"silent", 0, "false"}, {"rang", 180, "true"}, {"refused", 480, "true"}, {"dead link", -1, "false"},
	} {
		run(t, func(t *testing.T, s *site) {
			ph := phones(s, 1)
			inner, heard := s.plan, ""
			s.plan = func() *Plan {
				p := inner()
				p.Targets[0].Ring, p.Targets[0].Gone = 5*time.Second, 480
				p.More = func(x *Context, _ int) ([]Target, bool) { heard += fmt.Sprint(x.Heard()); return nil, false }
				return p
			}
			if c.says < 0 {
				ph[0].err = errors.New("gone")
			}
			s.layer.Receive(request(t, s.up, "INVITE", 1))
			if c.says > 0 {
				s.answer(t, ph[0], last(t, ph[0]), c.says)
			}
			time.Sleep(6 * time.Second)
			synctest.Wait()
			is.Equal(t, heard, c.heard, c.name)
		})
	}
}
