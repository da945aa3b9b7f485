-- Owner: core/ident.
-- +goose Up
create table account (
	id           integer primary key,
	rev          integer not null, -- grows with every change, so that a stale fact is known as such
	address      text not null,
	login        text not null,
	name         text not null,
	aliases      text not null,    -- JSON list
	numbers      text not null,    -- JSON list
	home         text not null,
	disabled     integer not null,
	max_bindings integer not null,
	history      integer not null,
	rights       text not null,    -- JSON list
	forwarding   text not null,    -- JSON
	password     text not null,    -- argon2id; empty until the first web sign-in
	created      integer not null,
	changed      integer not null
);

-- Who owns an address, a login name, a number: unique over all accounts.
create table account_key (
	kind    text not null,
	value   text not null,
	account integer not null,
	primary key (kind, value)
) without rowid;
create index account_key_account on account_key (account);

create table credential (
	id      integer primary key,
	account integer not null,
	kind    integer not null,
	name    text not null,
	hashes  blob not null,
	nt      blob,
	created integer not null,
	used    integer not null
);
create index credential_account on credential (account);
