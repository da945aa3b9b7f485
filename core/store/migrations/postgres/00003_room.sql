-- Owner: core/room.
-- +goose Up
-- Messages for people who were not there. A delivered one stays a while without its
-- text, so that the sender's repetition of it is known.
create table waiting (
	id        bigint primary key,
	account   bigint not null,
	key       text not null,    -- names the message: from Call-ID, CSeq and From tag
	sender    text not null,    -- From header
	recipient text not null,    -- To header
	headers   text not null,    -- more header lines to keep
	type      text not null,    -- Content-Type
	body      bytea not null,
	at        bigint not null,
	until     bigint not null, -- worthless after that; 0: never
	delivered bigint not null  -- when; 0: not yet
);
create unique index waiting_key on waiting (account, key);
create index waiting_open on waiting (account, id) where delivered = 0;
