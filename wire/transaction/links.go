package transaction

import "sync"

// A client transaction on a connection must hear at once when that is gone. Each
// connection with transactions under way has an entry here.
type linkShard struct {
	mu sync.Mutex
	m  map[uint64]map[*Client]struct{}
}

func (l *Layer) watch(c *Client) {
	id := c.flow.Link.Info().ID
	sh := &l.links[id%shards]
	sh.mu.Lock()
	if sh.m == nil {
		sh.m = make(map[uint64]map[*Client]struct{})
	}
	if sh.m[id] == nil {
		sh.m[id] = make(map[*Client]struct{})
	}
	sh.m[id][c] = struct{}{}
	sh.mu.Unlock()
}

func (l *Layer) unwatch(c *Client) {
	id := c.flow.Link.Info().ID
	sh := &l.links[id%shards]
	sh.mu.Lock()
	delete(sh.m[id], c)
	if len(sh.m[id]) == 0 {
		delete(sh.m, id)
	}
	sh.mu.Unlock()
}

// Gone says that the link with this id is closed: what waits for an answer on it
// fails with ErrTransport.
func (l *Layer) Gone(id uint64) {
	sh := &l.links[id%shards]
	sh.mu.Lock()
	all := sh.m[id]
	delete(sh.m, id)
	sh.mu.Unlock()
	for c := range all {
		c.broken()
	}
}
