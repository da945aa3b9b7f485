-- Owner: core/ident.
-- +goose Up
create table account (
	id           bigint primary key,
	rev          bigint not null, -- grows with every change, so that a stale fact is known as such
	address      text not null,
	login        text not null,
	name         text not null,
	aliases      text not null,    -- JSON list
	numbers      text not null,    -- JSON list
	home         text not null,
	disabled     bigint not null,
	max_bindings bigint not null,
	history      bigint not null,
	rights       text not null,    -- JSON list
	forwarding   text not null,    -- JSON
	password     text not null,    -- argon2id; empty until the first web sign-in
	created      bigint not null,
	changed      bigint not null
);

-- Who owns an address, a login name, a number: unique over all accounts.
create table account_key (
	kind    text not null,
	value   text not null,
	account bigint not null,
	primary key (kind, value)
);
create index account_key_account on account_key (account);

create table credential (
	id      bigint primary key,
	account bigint not null,
	kind    bigint not null,
	name    text not null,
	hashes  bytea not null,
	nt      bytea,
	created bigint not null,
	used    bigint not null
);
create index credential_account on credential (account);
