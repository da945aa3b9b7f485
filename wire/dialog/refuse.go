package dialog

import (
	"errors"
	"strings"

	"fernamt/wire/sdp"
	"fernamt/wire/sip"
)

// What an agent understands, as it says in Allow and Supported.
var (
	supported = []string{"100rel", "timer", "replaces", "norefersub", "outbound", "path", "gruu"}
	methods   = []sip.Method{sip.INVITE, sip.ACK, sip.BYE, sip.CANCEL, sip.OPTIONS, sip.MESSAGE, sip.INFO,
		sip.UPDATE, sip.PRACK, sip.REFER, sip.NOTIFY, sip.SUBSCRIBE}
)

// Allow gives the value of the Allow header.
func (a *Agent) Allow() string {
	var names []string
	for _, m := range methods {
		names = append(names, m.String())
	}
	if a.c.Publish {
		names = append(names, "PUBLISH")
	}
	return strings.Join(names, ", ")
}

// Supported gives the value of the Supported header.
func (a *Agent) Supported() string { return strings.Join(supported, ", ") }

func (a *Agent) allowed(m sip.Method) bool {
	for _, x := range methods {
		if x == m {
			return true
		}
	}
	return m == sip.PUBLISH && a.c.Publish
}

// refuse inspects a request in the order of RFC 3261 §8.2 and gives the status to refuse it
// with, and whole header lines for the answer. 0: it passes.
func (a *Agent) refuse(m *sip.Message) (code int, lines string) {
	if err := m.Check(); err != nil {
		var e *sip.Error
		if errors.As(err, &e) && e.Status != 0 {
			return e.Status, ""
		}
		return 400, ""
	}
	method := m.Method()
	if method == sip.Other {
		return 501, "Allow: " + a.Allow() + "\r\n"
	}
	if !a.allowed(method) { // RFC 3261 §8.2.1
		return 405, "Allow: " + a.Allow() + "\r\n"
	}
	u, err := sip.ParseURI(m.RequestURI())
	if err != nil {
		return 400, ""
	}
	if !u.Is("sip") && !u.Is("sips") && !u.Is("tel") { // RFC 3261 §8.2.2.1
		return 416, ""
	}
	if code, lines = extensions(m); code != 0 {
		return code, lines
	}
	if code, lines = a.content(m); code != 0 {
		return code, lines
	}
	if len(m.ToTag()) == 0 {
		return a.outside(m)
	}
	return 0, ""
}

// outside refuses what makes sense inside a dialog only.
func (a *Agent) outside(m *sip.Message) (int, string) {
	switch m.Method() {
	case sip.BYE, sip.PRACK, sip.UPDATE, sip.INFO:
		return 481, ""
	case sip.SUBSCRIBE:
		ev := eventName(m)
		for _, e := range a.c.Events {
			if strings.EqualFold(e, ev) {
				return 0, ""
			}
		}
		events := append([]string{"refer"}, a.c.Events...)                 // refer: inside calls
		return 489, "Allow-Events: " + strings.Join(events, ", ") + "\r\n" // RFC 6665 §4.2.1.1
	}
	return 0, ""
}

// RFC 3261 §8.2.2.3
func extensions(m *sip.Message) (int, string) {
	var unknown []string
	for v := range m.Values(sip.HRequire) {
		known := false
		for _, s := range supported {
			known = known || strings.EqualFold(s, string(v))
		}
		if !known {
			unknown = append(unknown, string(v))
		}
	}
	if len(unknown) > 0 {
		return 420, "Unsupported: " + strings.Join(unknown, ", ") + "\r\n"
	}
	return 0, ""
}

// RFC 3261 §8.2.3, and §21.4.7 for what the answer would have to be.
func (a *Agent) content(m *sip.Message) (int, string) {
	accept := a.types(m.Method())
	if m.Method() == sip.INVITE && m.Get(sip.HAccept) != nil && !takes(m, sdp.ContentType) {
		return 406, ""
	}
	if len(m.Body()) == 0 || optional(m) {
		return 0, ""
	}
	if e := m.Get(sip.HContentEncoding); e != nil && !strings.EqualFold(string(e), "identity") {
		return 415, "Accept-Encoding: identity\r\n"
	}
	if len(accept) == 0 {
		return 0, ""
	}
	ct := mediaType(m.Get(sip.HContentType))
	if ct == "" {
		return 400, "" // RFC 3261 §20.15: a body needs its type
	}
	for _, t := range accept {
		if t == ct {
			return 0, ""
		}
	}
	return 415, "Accept: " + strings.Join(accept, ", ") + "\r\n"
}

// types lists the bodies that a method may carry; none: any.
func (a *Agent) types(m sip.Method) []string {
	switch m {
	case sip.INVITE, sip.UPDATE, sip.PRACK:
		return []string{sdp.ContentType}
	case sip.MESSAGE:
		return a.c.Accept
	}
	return nil
}

// takes says whether the Accept header lists a type that covers t.
func takes(m *sip.Message, t string) bool {
	major, _, _ := strings.Cut(t, "/")
	for v := range m.Values(sip.HAccept) {
		switch mediaType(v) {
		case t, "*/*", major + "/*":
			return true
		}
	}
	return false
}

// optional: Content-Disposition lets us leave the body unread. RFC 3261 §20.11
func optional(m *sip.Message) bool {
	v := strings.ToLower(string(m.GetName("Content-Disposition")))
	return strings.Contains(strings.ReplaceAll(v, " ", ""), "handling=optional")
}

func mediaType(v []byte) string {
	t, _, _ := strings.Cut(string(v), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// eventName gives the package of an Event header without its parameters.
func eventName(m *sip.Message) string {
	v, _, _ := strings.Cut(string(m.Get(sip.HEvent)), ";")
	return strings.TrimSpace(v)
}

func eventID(m *sip.Message) string {
	_, p, ok := strings.Cut(string(m.Get(sip.HEvent)), ";")
	if !ok {
		return ""
	}
	v, _ := sip.Param([]byte(";"+p), "id")
	return string(v)
}
