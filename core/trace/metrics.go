package trace

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is the table of everything that is counted. Asking twice for the same
// name and labels gives the same counter, so a role that is started again goes on
// counting where it was.
type Metrics struct {
	reg      *prometheus.Registry
	mu       sync.Mutex
	families map[string]*family
	names    []string // families in the order of their first use
}

// family is one metric name with all its label values.
type family struct {
	name, help string
	kind       kind
	labels     []string
	series     []series
	find       map[string]any
	table      func() map[string]float64
	desc       *prometheus.Desc
}

type kind uint8

const (
	counterKind kind = iota + 1
	gaugeKind
	histogramKind
	tableKind // counters that somebody else holds
)

type series struct {
	values []string
	read   func() float64 // counters and gauges
	hist   *Histogram
}

// NewMetrics returns an empty table; the Go runtime's and the process's own figures
// are in it already.
func NewMetrics() *Metrics {
	m := &Metrics{reg: prometheus.NewRegistry(), families: map[string]*family{}}
	m.reg.MustRegister(collector{m}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Counter only goes up. It stands alone on its cache line.
type Counter struct {
	n atomic.Uint64
	_ [56]byte
}

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Value is the present count.
func (c *Counter) Value() uint64 { return c.n.Load() }

// Gauge goes up and down.
type Gauge struct {
	n atomic.Int64
	_ [56]byte
}

// Set sets it to n.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Value is the present value.
func (g *Gauge) Value() int64 { return g.n.Load() }

// Histogram counts how long things took.
type Histogram struct {
	bounds []time.Duration
	counts []atomic.Uint64 // one more than bounds: the rest
	sum    atomic.Int64    // ns
}

// Observe notes one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// latencies are a histogram's bounds unless others are given: 100 µs to 10 s.
var latencies = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 10 * time.Second,
}

// Counter returns the counter of that name ("sip_requests_total") and labels, given
// in pairs: "method", "INVITE". Keep it: finding it takes a lock.
func (m *Metrics) Counter(name, help string, labels ...string) *Counter {
	return get(m, counterKind, head{name, help}, labels, func() (*Counter, series) {
		c := &Counter{}
		return c, series{read: func() float64 { return float64(c.Value()) }}
	})
}

// Gauge returns the gauge of that name and labels (in pairs).
func (m *Metrics) Gauge(name, help string, labels ...string) *Gauge {
	return get(m, gaugeKind, head{name, help}, labels, func() (*Gauge, series) {
		g := &Gauge{}
		return g, series{read: func() float64 { return float64(g.Value()) }}
	})
}

// Read has f asked for the gauge's value whenever somebody looks. A later call with
// the same name and labels takes the place of the earlier one.
func (m *Metrics) Read(name, help string, f func() float64, labels ...string) {
	box := get(m, gaugeKind, head{name, help}, labels, func() (*reader, series) {
		r := &reader{}
		return r, series{read: r.read}
	})
	box.f.Store(&f)
}

// Table has f asked for a set of counters that differ in one label ("method"),
// whenever somebody looks. A later call with the same name takes the place of the
// earlier one.
func (m *Metrics) Table(name, help, label string, f func() map[string]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	full := "fernamt_" + name
	if m.families[full] == nil {
		m.names = append(m.names, full)
	}
	m.families[full] = &family{name: full, help: help, kind: tableKind, labels: []string{label}, table: f,
		desc: prometheus.NewDesc(full, help, []string{label}, nil)}
}

// rows asks a table and gives its rows as series, by label.
func (f *family) rows() []series {
	if f.kind != tableKind {
		return f.series
	}
	var list []series
	for k, v := range f.table() {
		list = append(list, series{values: []string{k}, read: func() float64 { return v }})
	}
	slices.SortFunc(list, func(a, b series) int { return strings.Compare(a.values[0], b.values[0]) })
	return list
}

type reader struct {
	f atomic.Pointer[func() float64]
}

func (r *reader) read() float64 {
	if f := r.f.Load(); f != nil {
		return (*f)()
	}
	return 0
}

// Histogram returns the histogram of that name and labels (in pairs). Its name ends
// in _seconds.
func (m *Metrics) Histogram(name, help string, labels ...string) *Histogram {
	return get(m, histogramKind, head{name, help}, labels, func() (*Histogram, series) {
		h := &Histogram{bounds: latencies[:], counts: make([]atomic.Uint64, len(latencies)+1)}
		return h, series{hist: h}
	})
}

// head is what stands above a family's series.
type head struct{ name, help string }

// get finds or makes one series. A name used as two kinds or with other label names
// is a slip of the programmer: the second user counts into the void and the page
// says so under its own name.
func get[T any](m *Metrics, k kind, name head, labels []string, mk func() (T, series)) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(labels)%2 != 0 {
		labels = labels[:len(labels)-1]
	}
	var keys, vals []string
	for i := 0; i < len(labels); i += 2 {
		keys, vals = append(keys, labels[i]), append(vals, labels[i+1])
	}
	full := "fernamt_" + name.name
	f := m.families[full]
	if f != nil && (f.kind != k || !slices.Equal(f.labels, keys)) {
		full = fmt.Sprintf("%s_clash_%d_%d", full, k, len(keys))
		f = m.families[full]
	}
	if f == nil {
		f = &family{name: full, help: name.help, kind: k, labels: keys, find: map[string]any{},
			desc: prometheus.NewDesc(full, name.help, keys, nil)}
		m.families[full] = f
		m.names = append(m.names, full)
	}
	id := strings.Join(vals, "\x00")
	if v, ok := f.find[id].(T); ok {
		return v
	}
	v, s := mk()
	s.values = vals
	f.find[id] = v
	f.series = append(f.series, s)
	return v
}

// collector shows the table to Prometheus.
type collector struct{ m *Metrics }

// Describe says nothing, which tells Prometheus that the set may change.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect hands over every series.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, f := range c.m.snapshot() {
		for _, s := range f.rows() {
			switch f.kind {
			case counterKind, tableKind:
				out <- prometheus.MustNewConstMetric(f.desc, prometheus.CounterValue, s.read(), s.values...)
			case gaugeKind:
				out <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue, s.read(), s.values...)
			case histogramKind:
				n, b := s.hist.read()
				sum := time.Duration(s.hist.sum.Load()).Seconds()
				out <- prometheus.MustNewConstHistogram(f.desc, n, sum, b, s.values...)
			}
		}
	}
}

func (m *Metrics) snapshot() []family {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]family, 0, len(m.names))
	for _, n := range m.names {
		f := *m.families[n]
		f.series = slices.Clone(f.series)
		all = append(all, f)
	}
	return all
}

func (h *Histogram) read() (uint64, map[float64]uint64) {
	var n uint64
	b := make(map[float64]uint64, len(h.bounds))
	for i, d := range h.bounds {
		n += h.counts[i].Load()
		b[d.Seconds()] = n
	}
	return n + h.counts[len(h.bounds)].Load(), b
}

// Sample is one figure of Samples.
type Sample struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  float64           `json:"value"` // of a histogram: how many
	Mean   float64           `json:"mean,omitempty"`
}

// Samples returns our own figures in the order they were first used.
func (m *Metrics) Samples() []Sample {
	var all []Sample
	for _, f := range m.snapshot() {
		for _, s := range f.rows() {
			x := Sample{Name: f.name}
			for i, k := range f.labels {
				if x.Labels == nil {
					x.Labels = map[string]string{}
				}
				x.Labels[k] = s.values[i]
			}
			if f.kind == histogramKind {
				n, _ := s.hist.read()
				x.Value = float64(n)
				if n > 0 {
					x.Mean = time.Duration(s.hist.sum.Load()).Seconds() / float64(n)
				}
			} else {
				x.Value = s.read()
			}
			if math.IsNaN(x.Value) || math.IsInf(x.Value, 0) {
				x.Value = 0
			}
			all = append(all, x)
		}
	}
	return all
}

// Handler answers GET /metrics in Prometheus' format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{})
}
