// Package play reads and performs plays: short scripts in which people with phones call and
// write to each other. The scripts lie in test/plays. They run against the whole suite in one
// process, against each role in a process of its own, and with `fernamt play` against any
// running host, so a play says what people see and not how a server does it.
//
// A script has one sentence per line; text behind # is a comment; the first comment is the
// title. An actor is a person ("bob") or one of the person's devices ("bob/desk"). Every
// sentence must come true within five seconds, or within the time that it names itself.
//
//	# Bob is busy
//	bob on tcp
//	alice registers
//	bob registers
//	alice calls bob
//	bob sees INVITE from alice
//	bob declines with 486
//	alice hears 486
//
// Sentences lists all that can be said. What an actor sees is used up by the sentence that
// expects it; things of one kind have to come in the order of the sentences.
//
// A performance runs on the caller's goroutine; each actor is a client with its own.
package play

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Play is a script that was read.
type Play struct {
	File  string // as errors name it
	Title string
	lines []line
}

type line struct {
	number int
	text   string
	words  []word
	actor  string
	verb   *sentence
	args   map[string]string
	within time.Duration
	last   bool // "at the end": done even after a failure
}

// word is one word of a sentence; a quoted text is one word.
type word struct {
	text   string
	quoted bool
}

// Error says where a play went wrong.
type Error struct {
	File string
	Line int
	Text string // the sentence
	Err  error
}

// Error gives file, line, the sentence and what was the case instead.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s: %v", e.File, e.Line, e.Text, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

const patience = 5 * time.Second

// Read reads a script. The error names file and line of the first sentence that nobody
// understands.
func Read(file, text string) (*Play, error) {
	p := &Play{File: file}
	for i, t := range strings.Split(text, "\n") {
		t, comment := split(t)
		if p.Title == "" && comment != "" {
			p.Title = comment
		}
		if t == "" {
			continue
		}
		l := line{number: i + 1, text: t}
		if err := l.read(); err != nil {
			return nil, &Error{file, i + 1, t, err}
		}
		p.lines = append(p.lines, l)
	}
	if p.Title == "" {
		return nil, &Error{file, 1, "", errors.New("a play begins with its title behind #")}
	}
	return p, nil
}

// ReadFile reads a script from a file.
func ReadFile(file string) (*Play, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("play: %w", err)
	}
	return Read(filepath.ToSlash(file), string(b))
}

// split cuts a comment off; # inside quotes is none.
func split(t string) (sentence, comment string) {
	quoted := false
	for i, c := range t {
		if c == '"' {
			quoted = !quoted
		}
		if c == '#' && !quoted {
			return strings.TrimSpace(t[:i]), strings.TrimSpace(t[i+1:])
		}
	}
	return strings.TrimSpace(t), ""
}

func (l *line) read() error {
	words, err := wordsOf(l.text)
	if err != nil {
		return err
	}
	if n := len(words); n > 2 && words[n-2].text == "within" {
		if l.within, err = time.ParseDuration(words[n-1].text); err != nil {
			return fmt.Errorf("%q is no time, say 300ms or 10s", words[n-1].text)
		}
		words = words[:n-2]
	}
	if len(words) > 3 && words[0].text == "at" && words[1].text == "the" && words[2].text == "end" {
		l.last, words = true, words[3:]
	}
	l.words = words
	l.actor = words[0].text
	for i := range sentences {
		if args, ok := sentences[i].match(words); ok {
			l.verb, l.args = &sentences[i], args
			return nil
		}
	}
	return fmt.Errorf("nobody understands this sentence%s", alike(words))
}

// alike names sentences that have a word in common with one that was not understood.
func alike(words []word) string {
	var list []string
	for _, s := range sentences {
		for _, w := range words[1:] {
			if f := strings.Fields(s.pattern); len(f) > 1 && f[1] == w.text {
				list = append(list, s.pattern)
			}
		}
	}
	if list == nil {
		return ""
	}
	return "; there is: " + strings.Join(list, "; ")
}

func wordsOf(t string) ([]word, error) {
	var ws []word
	for t = strings.TrimSpace(t); t != ""; t = strings.TrimSpace(t) {
		if t[0] == '"' {
			end := strings.IndexByte(t[1:], '"')
			if end < 0 {
				return nil, errors.New("a quote has no end")
			}
			ws = append(ws, word{t[1 : end+1], true})
			t = t[end+2:]
			continue
		}
		w, rest, _ := strings.Cut(t, " ")
		ws = append(ws, word{strings.TrimRight(w, ",."), false})
		t = rest
	}
	return ws, nil
}

// match holds words against a pattern. <name> stands for one word, <rest> for all that
// follow.
func (s *sentence) match(words []word) (map[string]string, bool) {
	args := map[string]string{}
	pattern := strings.Fields(s.pattern)
	for i, p := range pattern {
		if p == "<rest>" {
			var rest []string
			for _, w := range words[min(i, len(words)):] {
				rest = append(rest, w.text)
			}
			args["rest"] = strings.Join(rest, " ")
			return args, len(rest) > 0
		}
		if i >= len(words) {
			return nil, false
		}
		if !strings.HasPrefix(p, "<") {
			if words[i].text != p || words[i].quoted {
				return nil, false
			}
			continue
		}
		name := strings.Trim(p, "<>")
		if (name == "text") != words[i].quoted {
			return nil, false
		}
		args[name] = words[i].text
	}
	return args, len(words) == len(pattern)
}

// Run performs the play on a stage. tell, which may be nil, hears each sentence before it is
// acted. Whatever happens, the actors leave the stage as they found it.
func (p *Play) Run(ctx context.Context, s Stage, tell func(line int, sentence string)) (err error) {
	t := newTroupe(s)
	defer t.leave()
	for _, last := range []bool{false, true} {
		for i := range p.lines {
			l := &p.lines[i]
			if l.last != last {
				continue
			}
			if tell != nil {
				tell(l.number, l.text)
			}
			if e := t.act(ctx, l); e != nil {
				if err == nil {
					err = &Error{p.File, l.number, l.text, e}
				}
				if !last {
					break
				}
			}
		}
	}
	return err
}

func (t *troupe) act(ctx context.Context, l *line) error {
	within := l.within
	if within == 0 {
		within = t.Patience
	}
	if within == 0 {
		within = patience
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c := cue{Context: ctx, t: t, args: l.args}
	if strings.HasPrefix(l.verb.pattern, "<actor>") {
		a, err := t.actor(l.actor)
		if err != nil {
			return err
		}
		c.a = a
	}
	return l.verb.act(&c)
}

// Sentences gives everything that can be said, a line each with what it means.
func Sentences() string {
	var b strings.Builder
	for _, s := range sentences {
		fmt.Fprintf(&b, "%-48s %s\n", s.pattern, s.means)
	}
	return b.String()
}
