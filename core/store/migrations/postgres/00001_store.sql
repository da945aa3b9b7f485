-- Owners: core/store (number), core/event (event, subscriber).
-- +goose Up
create table number (
	name text primary key,
	last bigint not null
);

-- The outbox is the log: id is the position and grows with every commit.
create table event (
	id   bigint primary key,
	at   bigint not null,
	kind text not null,
	body text not null
);

create table subscriber (
	name     text primary key,
	position bigint not null,
	seen     bigint not null
);
