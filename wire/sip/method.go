package sip

// Method is a request method. Other stands for each that this package has no name for;
// its octets are in Message.MethodName.
type Method uint8

// The methods. BENOTIFY, SERVICE and NEGOTIATE belong to the OC dialect ([MS-SIP] §2.2).
const (
	Other Method = iota
	INVITE
	ACK
	BYE
	CANCEL
	OPTIONS
	REGISTER
	PRACK
	SUBSCRIBE
	NOTIFY
	PUBLISH
	INFO
	REFER
	MESSAGE
	UPDATE
	BENOTIFY
	SERVICE
	NEGOTIATE
	methods
)

var methodNames = [methods]string{
	"OTHER", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "SUBSCRIBE", "NOTIFY",
	"PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE", "BENOTIFY", "SERVICE", "NEGOTIATE",
}

// String gives the method's name, "OTHER" for one without a number.
func (m Method) String() string {
	if m >= methods {
		return "OTHER"
	}
	return methodNames[m]
}

// MethodOf gives the number of a method's name. Methods are case-sensitive and know no
// escapes: RE%47ISTER is not REGISTER.
// RFC 3261 §7.1
func MethodOf(token []byte) Method {
	for m := INVITE; m < methods; m++ {
		if methodNames[m] == string(token) {
			return m
		}
	}
	return Other
}
