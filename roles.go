package main

import (
	"fernamt/core/host"
	"fernamt/role/director"
	"fernamt/role/frontend"
	"fernamt/role/manage"
)

// roles is every role that this binary has, one line each, and the only place that
// knows them all. A role is listed when it does something; its name is its folder's,
// the one in a host's roles = [ … ], and the table's of its settings. To add one:
//
//	{Name: "edge", New: edge.New},
//
// where New is func New() host.Role and returns it with its defaults. The order is the
// order of starting.
func roles() []host.Kind {
	return []host.Kind{
		{Name: "frontend", New: frontend.New},
		{Name: "director", New: director.New},
		{Name: "manage", New: manage.New},
	}
}
