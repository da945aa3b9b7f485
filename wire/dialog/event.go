package dialog

import "fernamt/wire/sip"

// Kind says what an Event is about.
type Kind uint8

// What can happen.
const (
	Progress  Kind = iota + 1 // our call: a provisional response, Code
	Answered                  // our call: a 2xx, acknowledged
	Failed                    // our call: no 2xx; Code says why
	Confirmed                 // a call to us: the ACK for our 2xx
	Cancelled                 // a call to us: the caller gave up
	Updated                   // the peer changed the session: Call.Info has the new one
	Reply                     // the final response to a request of ours inside a dialog; Method, Code
	Inside                    // INFO, MESSAGE or NOTIFY inside a call; answered
	Referred                  // the peer asks us to call somebody: Referral is to be accepted or refused
	Transfer                  // how far the peer is with our REFER: Code from its sipfrag; Last: the end
	Ended                     // the call or subscription is over; Reason
	Notified                  // NOTIFY of a subscription of ours
	Active                    // our SUBSCRIBE was accepted; Code
	Refresh                   // the subscriber subscribed again; Expires
)

var kindNames = [...]string{"", "progress", "answered", "failed", "confirmed", "cancelled", "updated", "reply", "inside",
	"referred", "transfer", "ended", "notified", "active", "refresh"}

// String gives the kind's name in lower case.
func (k Kind) String() string { return kindNames[k] }

// Event is one thing that happened.
type Event struct {
	Kind         Kind
	Call         *Call         // nil for events of subscriptions
	Subscription *Subscription // a subscription of ours
	Notifier     *Notifier     // a subscription to us
	Referral     *Referral     // with Referred
	Message      *sip.Message  // what brought it; nil when a timer or we did
	Method       string        // with Reply
	Code         int           // status, where one belongs to it
	Reason       string        // why it ended: "bye", "hangup", "timeout", "replaced", ...
	Last         bool          // with Transfer: nothing more comes
}
