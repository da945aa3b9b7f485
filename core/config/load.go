package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Error is one thing wrong in a settings file.
type Error struct {
	File    string
	Line    int    // 0: the file as a whole
	Key     string // "frontend.trusted"; "" for syntax
	Problem string // what is wrong, and what is allowed
}

// Error is "fernamt.toml:12: frontend.trusted: …".
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
	}
	if e.Key != "" {
		s += ": " + e.Key
	}
	return s + ": " + e.Problem
}

// KeyError is what a role's Check returns to say which of its settings is wrong. Key
// is the setting's key within the role's table.
type KeyError struct {
	Key string
	Err error
}

// Error is "key: what is wrong".
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// Load reads file. roles holds a pointer to a struct with defaults for every role the
// binary has, by name; it is filled. A role with a method Check() error has its
// settings checked by it.
func Load(file string, roles map[string]any) (*Settings, error) {
	src, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &Error{File: file, Problem: "there is no such file; fernamt quickstart DOMAIN writes one"}
	}
	if err != nil {
		return nil, &Error{File: file, Problem: err.Error()}
	}
	return Parse(file, src, roles)
}

// Parse is Load with the file's content at hand.
func Parse(file string, src []byte, roles map[string]any) (*Settings, error) {
	s := Defaults()
	s.File, s.Roles = file, roles
	doc := newDocument(s, roles)
	d := toml.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	if err := d.Decode(doc.value.Interface()); err != nil {
		return nil, explain(file, src, err, doc.value.Type().Elem())
	}
	doc.copyOut(s, roles)
	s.lines = lines(src)
	for i := range s.Hosts {
		s.Hosts[i].defaults()
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// document is the struct that the decoder fills: the fields of Settings and one table
// per role, whose fields stand in for the role's own so that keys and durations come
// out right.
type document struct {
	value reflect.Value // pointer
	names []string      // role of each field from Settings' on
	first int
}

func newDocument(s *Settings, roles map[string]any) *document {
	doc := &document{}
	var fields []reflect.StructField
	st := reflect.TypeOf(*s)
	for i := range st.NumField() {
		f := st.Field(i)
		key := f.Tag.Get("toml")
		if _, role := roles[key]; f.IsExported() && key != "-" && !role {
			fields = append(fields, f)
		}
	}
	doc.first = len(fields)
	for name := range roles {
		doc.names = append(doc.names, name)
	}
	slices.Sort(doc.names)
	for i, name := range doc.names {
		t := mirror(reflect.TypeOf(roles[name]).Elem())
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("Role%d", i), Type: t,
			Tag: reflect.StructTag(fmt.Sprintf("toml:%q", name))})
	}
	for i := range fields {
		fields[i].Offset, fields[i].Index = 0, nil
	}
	doc.value = reflect.New(reflect.StructOf(fields))
	for i := range doc.first {
		v := doc.value.Elem().Field(i)
		v.Set(reflect.ValueOf(s).Elem().FieldByName(fields[i].Name))
	}
	for i, name := range doc.names {
		shift(doc.value.Elem().Field(doc.first+i), reflect.ValueOf(roles[name]).Elem(), true)
	}
	return doc
}

func (doc *document) copyOut(s *Settings, roles map[string]any) {
	for i := range doc.first {
		name := doc.value.Elem().Type().Field(i).Name
		reflect.ValueOf(s).Elem().FieldByName(name).Set(doc.value.Elem().Field(i))
	}
	for i, name := range doc.names {
		shift(doc.value.Elem().Field(doc.first+i), reflect.ValueOf(roles[name]).Elem(), false)
	}
}

var durationType = reflect.TypeFor[time.Duration]()

// mirror is t's exported fields with their keys as tags and Duration for
// time.Duration.
func mirror(t reflect.Type) reflect.Type {
	var fields []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		m := reflect.StructField{Name: f.Name, Type: f.Type,
			Tag: reflect.StructTag(fmt.Sprintf("toml:%q doc:%q", keyOf(f), f.Tag.Get("doc")))}
		if f.Type == durationType {
			m.Type = reflect.TypeFor[Duration]()
		}
		fields = append(fields, m)
	}
	return reflect.StructOf(fields)
}

// shift copies between a mirror and a role.
func shift(m, role reflect.Value, in bool) {
	for i := range m.NumField() {
		a, b := m.Field(i), role.FieldByName(m.Type().Field(i).Name)
		if in {
			a.Set(b.Convert(a.Type()))
		} else {
			b.Set(a.Convert(b.Type()))
		}
	}
}

// keyOf is a field's key: its toml tag, or its name as lower_case.
func keyOf(f reflect.StructField) string {
	if t, _, _ := strings.Cut(f.Tag.Get("toml"), ","); t != "" {
		return t
	}
	var b strings.Builder
	rs := []rune(f.Name)
	for i, r := range rs {
		upper := unicode.IsUpper(r)
		if upper && i > 0 && (!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// explain turns the decoder's error into ours.
func explain(file string, src []byte, err error, t reflect.Type) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) && len(missing.Errors) > 0 {
		e := missing.Errors[0]
		line, _ := e.Position()
		p := unknown(e.Key(), t)
		if n := len(missing.Errors) - 1; n > 0 {
			p += fmt.Sprintf(" (and %d more unknown)", n)
		}
		return &Error{File: file, Line: line, Key: strings.Join(e.Key(), "."), Problem: p}
	}
	var de *toml.DecodeError
	if !errors.As(err, &de) {
		line, key := search(src, t)
		return &Error{File: file, Line: line, Key: key, Problem: strings.TrimPrefix(err.Error(), "toml: ")}
	}
	line, _ := de.Position()
	problem := strings.TrimPrefix(de.Error(), "toml: ")
	if at := typeAt(t, de.Key()); at != nil && strings.HasPrefix(problem, "cannot decode") {
		problem = "must be " + kindText(at)
	}
	return &Error{File: file, Line: line, Key: strings.Join(de.Key(), "."), Problem: problem}
}

// search finds the key that the decoder does not name (it does not for a list's
// later elements): the first at which the file, cut off behind it, is refused.
func search(src []byte, t reflect.Type) (line int, key string) {
	at := lines(src)
	keys := make([]string, 0, len(at))
	for k := range at {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return at[a] - at[b] })
	rows := bytes.SplitAfter(src, []byte("\n"))
	for i, k := range keys {
		end := len(rows)
		if i+1 < len(keys) {
			end = min(at[keys[i+1]]-1, end)
		}
		if toml.Unmarshal(bytes.Join(rows[:end], nil), reflect.New(t).Interface()) != nil {
			return at[k], k
		}
	}
	return 0, ""
}

func unknown(key []string, t reflect.Type) string {
	at := typeAt(t, key[:len(key)-1])
	if at == nil {
		return "unknown key"
	}
	var known []string
	for at.Kind() == reflect.Slice || at.Kind() == reflect.Pointer {
		at = at.Elem()
	}
	if at.Kind() == reflect.Struct {
		for i := range at.NumField() {
			known = append(known, keyOf(at.Field(i)))
		}
	}
	slices.Sort(known)
	p := "unknown key"
	if n := Nearest(key[len(key)-1], known); n != "" {
		p += "; did you mean " + n + "?"
	}
	if len(known) == 0 {
		return p + " (nothing can be set here)"
	}
	return p + " (allowed: " + strings.Join(known, ", ") + ")"
}

// typeAt follows keys into t.
func typeAt(t reflect.Type, key []string) reflect.Type {
	for _, k := range key {
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
			continue
		case reflect.Struct:
		default:
			return nil
		}
		found := false
		for i := range t.NumField() {
			if f := t.Field(i); keyOf(f) == k {
				t, found = f.Type, true
				break
			}
		}
		if !found {
			return nil
		}
	}
	return t
}

// kindText says what a value of type t looks like.
func kindText(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "a duration such as \"30s\""
	case reflect.TypeFor[Net]():
		return "an address or a network such as \"10.0.0.0/8\""
	case reflect.TypeFor[Secret]():
		return "file:NAME"
	}
	if t.String() == "netip.Addr" {
		return "an address such as \"192.0.2.1\""
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text in quotes"
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		return "a whole number"
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		return "a whole number, not negative"
	case reflect.Float64, reflect.Float32:
		return "a number"
	case reflect.Slice:
		return "a list: [ … ], each " + kindText(t.Elem())
	case reflect.Map, reflect.Struct:
		return "a table"
	}
	return "a " + t.Kind().String()
}

// lines notes on which line each key stands: "storage.dsn", "host[1].name".
func lines(src []byte) map[string]int {
	at := map[string]int{}
	var p unstable.Parser
	p.Reset(src)
	table := ""
	count := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		line := 0
		for it := e.Key(); it.Next(); {
			if n := it.Node(); n != nil {
				parts = append(parts, string(n.Data))
				if line == 0 {
					line = p.Shape(n.Raw).Start.Line
				}
			}
		}
		key := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.Table:
			table = within(key, count)
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d]", key, count[key])
			count[key]++
		case unstable.KeyValue:
			if table != "" {
				key = table + "." + key
			}
			at[key] = line
			continue
		default:
			continue
		}
		at[table] = line
	}
	return at
}

// within gives [host.addresses] below [[host]] its index.
func within(key string, count map[string]int) string {
	first, rest, ok := strings.Cut(key, ".")
	if n := count[first]; ok && n > 0 {
		return fmt.Sprintf("%s[%d].%s", first, n-1, rest)
	}
	return key
}
