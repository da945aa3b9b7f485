package sip

import "bytes"

// Address is a name-addr or addr-spec with the parameters behind it, as in From, To,
// Contact and Route. All fields are views.
// RFC 3261 §20.10
type Address struct {
	Display []byte // without quotes, backslashes kept (Unquote undoes them)
	URI     URI    // zero for the Contact "*"
	RawURI  []byte // the URI as written, without angle brackets
	Params  []byte // ";a=b;c" behind the address, blanks allowed
	Angle   bool   // the URI stood in angle brackets
}

// ParseAddress reads one address; a value with several is cut by Values before.
func ParseAddress(b []byte) (Address, error) {
	var a Address
	err := a.parse(trim(b))
	return a, err
}

// parse fills a zero Address.
func (a *Address) parse(b []byte) error {
	if len(b) == 0 {
		return errAddress
	}
	i := 0
	switch b[0] {
	case '<':
	case '"':
		if i = quoted(b, 0); i < 0 {
			return errAddress
		}
		a.Display = b[1 : i-1]
		i = skip(b, i)
	case '*':
		if len(b) == 1 {
			a.RawURI = b
			return nil
		}
		fallthrough
	default:
		i = span(b, 0, cDisplay)
		if i == len(b) || b[i] != '<' {
			return a.parseSpec(b)
		}
		a.Display = trim(b[:i])
	}
	if i >= len(b) || b[i] != '<' {
		return errAddress
	}
	end := bytes.IndexByte(b[i:], '>')
	if end < 0 {
		return errAddress
	}
	end += i
	a.Angle = true
	a.RawURI = b[i+1 : end]
	if end+1 < len(b) {
		a.Params = b[skip(b, end+1):]
		if !goodParams(a.Params) {
			return errAddress
		}
	}
	return a.URI.parse(a.RawURI)
}

// parseSpec reads a URI without brackets: all behind its first semicolon belongs to the
// header, and it may hold neither comma nor question mark.
// RFC 3261 §20
func (a *Address) parseSpec(b []byte) error {
	a.RawURI = b
	if i := bytes.IndexByte(b, ';'); i >= 0 {
		a.RawURI, a.Params = trim(b[:i]), b[i:]
		if !goodParams(a.Params) {
			return errAddress
		}
	}
	for _, c := range a.RawURI {
		if c == '?' || c == ',' {
			return errAddress
		}
	}
	return a.URI.parse(a.RawURI)
}

// Star says that this is the Contact "*" of a REGISTER that removes all bindings.
// RFC 3261 §10.2.2
func (a Address) Star() bool { return len(a.RawURI) == 1 && a.RawURI[0] == '*' }

// Tag gives the tag parameter, nil if there is none.
func (a Address) Tag() []byte {
	v, _ := Param(a.Params, "tag")
	return v
}

// Param finds a parameter behind the address; name in lower case.
func (a Address) Param(name string) (v []byte, ok bool) { return Param(a.Params, name) }

// AppendTo appends the address as text, its URI in angle brackets.
func (a Address) AppendTo(dst []byte) []byte {
	if a.Star() {
		return append(dst, '*')
	}
	if len(a.Display) > 0 {
		dst = append(dst, '"')
		dst = append(dst, a.Display...)
		dst = append(dst, '"', ' ')
	}
	dst = append(dst, '<')
	dst = append(dst, a.RawURI...)
	dst = append(dst, '>')
	return append(dst, a.Params...)
}

// paramsOf gives the parameters behind the address in b without looking at the rest.
// It finds a tag faster than ParseAddress does.
func paramsOf(b []byte) []byte {
	i := 0
	if len(b) > 0 && b[0] == '"' {
		if i = quoted(b, 0); i < 0 {
			return nil
		}
	}
	if lt := bytes.IndexByte(b[i:], '<'); lt >= 0 {
		if semi := bytes.IndexByte(b[i:], ';'); semi < 0 || semi > lt {
			gt := bytes.IndexByte(b[i+lt:], '>')
			if gt < 0 {
				return nil
			}
			return b[i+lt+gt+1:]
		}
	}
	if semi := bytes.IndexByte(b[i:], ';'); semi >= 0 {
		return b[i+semi:]
	}
	return nil
}
