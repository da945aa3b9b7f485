package config

import (
	"encoding"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Describe writes a commented settings file with every key and its default. What it
// writes is a working file for one host on loopback.
func Describe(w io.Writer, roles map[string]any) error {
	s := Defaults()
	s.Domains = []string{"example.test"}
	s.Pools = []Pool{{Name: "pool1.example.test"}}
	h := Host{Name: "a.example.test", Internal: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	h.defaults()
	for r := range roles {
		h.Roles = append(h.Roles, r)
	}
	slices.Sort(h.Roles)
	s.Hosts = []Host{h}
	s.Roles = roles
	return s.write(w, true)
}

// Write writes the settings that differ from their defaults, commented.
func (s *Settings) Write(w io.Writer) error { return s.write(w, false) }

func (s *Settings) write(w io.Writer, all bool) error {
	p := &printer{all: all, roles: s.Roles}
	p.table("", reflect.ValueOf(*s), reflect.ValueOf(*Defaults()))
	names := make([]string, 0, len(s.Roles))
	for n := range s.Roles {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		v := reflect.ValueOf(s.Roles[n]).Elem()
		p.section(n, "What the role "+n+" can be told", v, reflect.Value{})
	}
	_, err := io.WriteString(w, strings.TrimLeft(p.b.String(), "\n"))
	return err
}

// printer writes TOML.
type printer struct {
	b     strings.Builder
	all   bool           // defaults too
	roles map[string]any // their tables are written by themselves
}

// table writes v's plain fields, then its tables, then its lists of tables.
func (p *printer) table(path string, v, def reflect.Value) {
	p.plain(v, def)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Tag.Get("toml") == "-" || !isTable(f.Type) {
			continue
		}
		name := join(path, keyOf(f))
		if _, role := p.roles[name]; role {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			d := reflect.Value{}
			if def.IsValid() {
				d = def.Field(i)
			}
			p.section(name, f.Tag.Get("doc"), v.Field(i), d)
			continue
		}
		p.list(name, f, v.Field(i))
	}
}

func (p *printer) section(name, doc string, v, def reflect.Value) {
	inner := &printer{all: p.all}
	inner.table(name, v, def)
	if inner.b.Len() == 0 && !p.all {
		return
	}
	p.b.WriteByte('\n')
	p.comment(doc)
	fmt.Fprintf(&p.b, "[%s]\n%s", name, inner.b.String())
}

// list writes [[name]] for each element; when there is none and everything is to be
// shown, one in comments.
func (p *printer) list(name string, f reflect.StructField, v reflect.Value) {
	for i := range v.Len() {
		p.b.WriteByte('\n')
		if i == 0 {
			p.comment(f.Tag.Get("doc"))
		}
		fmt.Fprintf(&p.b, "[[%s]]\n", name)
		p.table(name, v.Index(i), reflect.Zero(f.Type.Elem()))
	}
	if v.Len() > 0 || !p.all {
		return
	}
	inner := &printer{all: true}
	inner.table(name, reflect.Zero(f.Type.Elem()), reflect.Value{})
	p.b.WriteByte('\n')
	p.comment(f.Tag.Get("doc"))
	fmt.Fprintf(&p.b, "#[[%s]]\n", name)
	for line := range strings.Lines(inner.b.String()) {
		if !strings.HasPrefix(line, "#") {
			line = "#" + line
		}
		p.b.WriteString(line)
	}
}

func (p *printer) plain(v, def reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Tag.Get("toml") == "-" || isTable(f.Type) {
			continue
		}
		same := def.IsValid() && reflect.DeepEqual(v.Field(i).Interface(), def.Field(i).Interface())
		if same && !p.all {
			continue
		}
		p.comment(f.Tag.Get("doc"))
		key := keyOf(f)
		if f.Type.Kind() == reflect.Map && v.Field(i).Len() == 0 {
			fmt.Fprintf(&p.b, "%s = {}\n", key)
			continue
		}
		fmt.Fprintf(&p.b, "%s = %s\n", key, literal(v.Field(i)))
	}
}

func (p *printer) comment(doc string) {
	for len(doc) > 0 {
		line := doc
		if len(line) > 96 {
			i := strings.LastIndexByte(line[:96], ' ')
			if i > 0 {
				line = line[:i]
			}
		}
		fmt.Fprintf(&p.b, "# %s\n", line)
		doc = strings.TrimLeft(doc[len(line):], " ")
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var textType = reflect.TypeFor[encoding.TextMarshaler]()

// isTable says whether a field becomes a table of its own.
func isTable(t reflect.Type) bool {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
		return t.Kind() == reflect.Struct && !t.Implements(textType)
	}
	return t.Kind() == reflect.Struct && !t.Implements(textType)
}

// literal writes a value as TOML.
func literal(v reflect.Value) string {
	if v.Type() == durationType {
		v = reflect.ValueOf(Duration(v.Interface().(time.Duration)))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, _ := m.MarshalText()
		return quote(string(b))
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, literal(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Map:
		var parts []string
		for _, k := range v.MapKeys() {
			parts = append(parts, quote(k.String())+" = "+literal(v.MapIndex(k)))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	case reflect.Float64, reflect.Float32:
		s := strconv.FormatFloat(v.Float(), 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	return fmt.Sprint(v.Interface())
}

// quote writes a basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
