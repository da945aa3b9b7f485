package room

import "fernamt/core/event"

// Sent says that a message was taken for somebody.
type Sent struct {
	Key    string `json:"key"`
	From   string `json:"from"`
	To     string `json:"to"`
	Type   string `json:"type,omitempty"`
	Size   int    `json:"size"`
	Stored bool   `json:"stored,omitempty"` // it waits, since nobody was there
}

// Delivered says that a message reached a phone of the person.
type Delivered struct {
	Key  string `json:"key"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Kind is "message.Sent".
func (Sent) Kind() string { return "message.Sent" }

// Kind is "message.Delivered".
func (Delivered) Kind() string { return "message.Delivered" }

// Facts lists the facts of this package, for the documents.
func Facts() []event.Fact { return []event.Fact{Sent{}, Delivered{}} }
