-- Owners: core/store (number), core/event (event, subscriber).
-- +goose Up
create table number (
	name text primary key,
	last integer not null
) without rowid;

-- The outbox is the log: id is the position and grows with every commit.
create table event (
	id   integer primary key,
	at   integer not null,
	kind text not null,
	body text not null
);

create table subscriber (
	name     text primary key,
	position integer not null,
	seen     integer not null
) without rowid;
