-- Format 2. docs/internals/data.md tells what each table is for; what is said here is what only SQLite has.
--
-- Keys of instances, executions and messages are unique in the whole file, as hosts of all its hubs are numbered
-- together. Texts compare by code point (BINARY). Times are microseconds since 1970, UTC.

CREATE TABLE hub (
    key         INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    format      INTEGER NOT NULL,
    client_key  INTEGER NOT NULL DEFAULT 0    -- the last one given to a client of this hub
) STRICT;

CREATE TABLE host (
    id             TEXT    PRIMARY KEY,
    hub            INTEGER NOT NULL,
    ordinal        INTEGER NOT NULL UNIQUE,
    prefix         TEXT    NOT NULL,          -- 16 hexadecimal digits, as 64 bits without a sign do not fit an INTEGER
    alive          INTEGER NOT NULL,
    commit_number  INTEGER NOT NULL,
    committed_at   INTEGER NOT NULL,
    since          INTEGER NOT NULL,
    pid            INTEGER NOT NULL,
    machine        TEXT    NOT NULL,
    expires_at     INTEGER,
    functions      TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE partition (
    hub     INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    host    TEXT    NOT NULL,
    PRIMARY KEY (hub, number)
) STRICT, WITHOUT ROWID;

-- Short columns come first, so that a scan need not follow a row with a large input onto its overflow pages.
CREATE TABLE instance (
    key               INTEGER PRIMARY KEY,
    hub               INTEGER NOT NULL,
    partition         INTEGER NOT NULL,
    id                TEXT    NOT NULL,
    kind              TEXT    NOT NULL,
    status            TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    completed_at      INTEGER,
    execution         INTEGER NOT NULL,
    generation        INTEGER NOT NULL,
    sequence          INTEGER NOT NULL,
    ready             INTEGER NOT NULL,
    open_activities   INTEGER NOT NULL,
    parent_key        INTEGER,
    parent_execution  INTEGER,
    parent_task       INTEGER,
    input_payload     INTEGER,
    output_payload    INTEGER,
    status_payload    INTEGER,
    execution_id      TEXT    NOT NULL,
    name              TEXT    NOT NULL,
    version           TEXT,
    parent_id         TEXT,
    parent_name       TEXT,
    request_id        TEXT,
    parked            TEXT,
    failure           TEXT,
    custom_status     TEXT,
    input             TEXT,
    output            TEXT
) STRICT;

CREATE UNIQUE INDEX instance_id ON instance (hub, id);
CREATE INDEX instance_created ON instance (hub, created_at);
CREATE INDEX instance_due ON instance (hub, key)
    WHERE (ready OR open_activities > 0) AND status NOT IN ('Suspended', 'Failed') AND parked IS NULL;
CREATE INDEX instance_parked ON instance (hub, key) WHERE parked IS NOT NULL;

-- In order of arrival, with the order of each execution in an index: rows are appended to the table's end, where a table
-- led by the execution takes them in the middle and moves its bodies about. Twice the rows a second.
CREATE TABLE history (
    execution  INTEGER NOT NULL,
    first      INTEGER NOT NULL,
    body       BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX history_order ON history (execution, first);

-- AUTOINCREMENT: an arrival number is never given out twice, also when the last row has been deleted.
CREATE TABLE inbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         INTEGER NOT NULL UNIQUE,
    hub        INTEGER NOT NULL,
    target     INTEGER NOT NULL,
    execution  INTEGER NOT NULL,
    control    INTEGER NOT NULL,
    body       BLOB    NOT NULL
) STRICT;

CREATE INDEX inbox_target ON inbox (target);

CREATE TABLE timer (
    hub        INTEGER NOT NULL,
    fire_at    INTEGER NOT NULL,
    instance   INTEGER NOT NULL,
    execution  INTEGER NOT NULL,
    task_id    INTEGER NOT NULL,
    PRIMARY KEY (hub, fire_at, instance, execution, task_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX timer_instance ON timer (instance);

CREATE TABLE garbage (
    execution  INTEGER PRIMARY KEY,
    hub        INTEGER NOT NULL
) STRICT;

CREATE INDEX garbage_hub ON garbage (hub);

CREATE TABLE payload (
    id         INTEGER PRIMARY KEY,
    instance   INTEGER NOT NULL,
    execution  INTEGER NOT NULL,
    encoding   TEXT    NOT NULL,
    body       BLOB    NOT NULL
) STRICT;

CREATE INDEX payload_instance ON payload (instance, execution);
CREATE INDEX payload_execution ON payload (execution);
