-- Every statement by name. What several share or what follows from a struct is put in by statements.py: $instance, the
-- columns of an InstanceRow in its order; $instance_values, as many parameters and one for the hub; $instance_changes,
-- assignments of the columns that may change; $progress_changes, the same for those of PROGRESS behind a key; $mail, the
-- columns of a StoredMail; $query, the condition of an InstanceQuery; $key_bits, how far the ordinal of a host lies to the
-- left in the keys that it makes.

-- === The hub =======================================================================================================

-- name: find_hub
-- One row, if the file has the hub.
SELECT key, format FROM hub WHERE name = ?1;

-- name: insert_hub
-- Two processes may both find it missing.
INSERT INTO hub (name, format) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING;

-- name: stamp_hubs
-- After a migration.
UPDATE hub SET format = ?1;

-- === The lane ======================================================================================================

-- name: end_hosts
-- Whoever holds the host lock is the only process that hosts, so all others that are marked alive are gone.
UPDATE host SET alive = 0 WHERE alive;

-- name: next_ordinal
-- Above that of every host of every hub in the file: it is the upper part of the keys that the host will make.
SELECT coalesce(max(ordinal), 0) + 1 FROM host;

-- name: insert_host
-- A lane at commit number 0.
INSERT INTO host (id, hub, ordinal, prefix, alive, commit_number, committed_at, since, pid, machine)
VALUES (?1, ?2, ?3, ?4, 1, 0, ?5, ?5, ?6, ?7);

-- name: take_partition
-- The new owner of one partition.
INSERT INTO partition (hub, number, host) VALUES (?1, ?2, ?3)
ON CONFLICT (hub, number) DO UPDATE SET host = excluded.host;

-- name: end_host
-- Hits nothing when it was done before.
UPDATE host SET alive = 0 WHERE id = ?1 AND alive;

-- name: commit_number
-- How far the lane got, whether or not the host is alive.
SELECT commit_number FROM host WHERE id = ?1;

-- name: fence
-- The first write of a commit. Hits nothing if the host is not alive or the number not the next one.
UPDATE host SET commit_number = ?1, committed_at = ?2 WHERE id = ?3 AND hub = ?4 AND alive AND commit_number = ?1 - 1;

-- name: is_alive
-- One row, if it is.
SELECT 1 FROM host WHERE id = ?1 AND hub = ?2 AND alive;

-- === Payloads ======================================================================================================

-- name: insert_payload
-- Refused by the primary key when there is such a payload.
INSERT INTO payload (id, instance, execution, encoding, body) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: payloads
-- By id.
SELECT id, instance, execution, encoding, body FROM payload WHERE id IN (SELECT value FROM json_each(?1));

-- name: payloads_of_execution
-- A page, with their sizes, which SQLite knows without reading them.
SELECT id, length(body) FROM payload WHERE execution = ?1 ORDER BY id LIMIT ?2;

-- name: walk_payloads
-- A page of all, by keys, from behind one. Those that no commit can refer to have a size: whose execution is not their
-- instance's, written by a host that is gone. For the others their index is read and no more.
WITH page (instance, execution, id) AS (
    SELECT instance, execution, id FROM payload WHERE instance = ?1 AND execution = ?2 AND id > ?3
    UNION ALL
    SELECT instance, execution, id FROM payload WHERE (instance, execution) > (?1, ?2)
    ORDER BY instance, execution, id LIMIT ?4
)
SELECT instance, execution, id, CASE
    WHEN execution IS NOT (SELECT instance.execution FROM instance WHERE key = page.instance)
    AND NOT EXISTS (SELECT 1 FROM host WHERE ordinal = page.id >> $key_bits AND alive)
    THEN (SELECT length(body) FROM payload WHERE payload.id = page.id)
END
FROM page;

-- name: delete_payload
-- By id.
DELETE FROM payload WHERE id = ?1;

-- === What a commit writes ==========================================================================================
-- Where <rows> stands, bulk.py puts rows of parameters; those with NULLs only fill up their number. Lists of integers come
-- as one JSON array. The + keeps a hub from being looked up in an index.

-- name: retire_purged
-- The history of a purged instance goes to the garbage list: it may be long.
INSERT INTO garbage (execution, hub)
SELECT execution, hub FROM instance NOT INDEXED WHERE hub = ?1 AND key IN (SELECT value FROM json_each(?2))
ON CONFLICT DO NOTHING;

-- name: delete_instances
-- Counted.
DELETE FROM instance NOT INDEXED WHERE hub = ?1 AND key IN (SELECT value FROM json_each(?2));

-- name: insert_instances
-- Refused by instance_id when an id is taken.
INSERT INTO instance (hub, $instance) SELECT ?, * FROM (VALUES <rows>) WHERE column1 IS NOT NULL;

-- name: update_instances
-- Counted.
UPDATE instance SET $instance_changes
FROM (VALUES <rows>) AS given WHERE key = given.column1 AND +hub = ?;

-- name: advance_instances
-- Counted. Rows are a key and the columns of PROGRESS in their order.
UPDATE instance SET $progress_changes
FROM (VALUES <rows>) AS given WHERE key = given.column1 AND +hub = ?;

-- name: insert_history
-- Refused by history_order when an execution has a row there.
INSERT INTO history (execution, first, body) SELECT * FROM (VALUES <rows>) WHERE column1 IS NOT NULL;

-- name: delete_messages
-- Counted.
DELETE FROM inbox WHERE hub = ?1 AND id IN (SELECT value FROM json_each(?2));

-- name: insert_messages
-- Their arrival numbers are the table's next, in the order given.
INSERT INTO inbox (hub, id, target, execution, control, body)
SELECT ?, * FROM (VALUES <rows>) WHERE column1 IS NOT NULL;

-- name: delete_timers
-- Not counted: one may have fired and be gone.
DELETE FROM timer WHERE hub = ? AND (fire_at, instance, execution, task_id) IN (VALUES <rows>);

-- name: insert_timers
-- Refused by the primary key when there is such a timer.
INSERT INTO timer (hub, fire_at, instance, execution, task_id)
SELECT ?, * FROM (VALUES <rows>) WHERE column1 IS NOT NULL;

-- name: retire
-- Their history is deleted later, by sweep.
INSERT INTO garbage (execution, hub) SELECT value, ?1 FROM json_each(?2) WHERE true ON CONFLICT DO NOTHING;

-- name: purge_inbox
-- After everything else of the commit, as are the next two.
DELETE FROM inbox WHERE target IN (SELECT value FROM json_each(?1));

-- name: purge_timers
-- All that the instances had, of any execution.
DELETE FROM timer WHERE instance IN (SELECT value FROM json_each(?1));

-- name: purge_payloads
-- All that the instances had, of any execution.
DELETE FROM payload WHERE instance IN (SELECT value FROM json_each(?1));

-- === Sweeping ======================================================================================================

-- name: garbage
-- Executions to be swept, a page.
SELECT execution FROM garbage WHERE hub = ?1 ORDER BY execution LIMIT ?2;

-- name: sweep_history
-- The first rows of an execution.
DELETE FROM history WHERE rowid IN (SELECT rowid FROM history WHERE execution = ?1 ORDER BY first LIMIT ?2);

-- name: forget_garbage
-- Once no row of it is left.
DELETE FROM garbage WHERE execution = ?1;

-- === Reading =======================================================================================================

-- name: instance
-- By key.
SELECT $instance FROM instance WHERE key = ?1 AND hub = ?2;

-- name: instance_of_id
-- By id.
SELECT $instance FROM instance WHERE hub = ?1 AND id = ?2;

-- name: query_by_key
-- In order of keys from where the last page ended: a walk over all pages reads each row once, whatever the filter.
SELECT $instance FROM instance NOT INDEXED
WHERE $query ORDER BY key LIMIT ?8;

-- name: query_by_creation
-- The same, for a span of time with few instances.
SELECT $instance FROM instance INDEXED BY instance_created
WHERE $query ORDER BY key LIMIT ?8;

-- name: query_by_id
-- The same, for a prefix with few instances.
SELECT $instance FROM instance INDEXED BY instance_id
WHERE $query ORDER BY key LIMIT ?8;

-- name: count_created
-- How many instances a span of time has, counted up to a limit.
SELECT count(*) FROM (SELECT 1 FROM instance WHERE hub = ?1 AND created_at BETWEEN ?2 AND ?3 LIMIT ?4);

-- name: count_ids
-- How many instances a span of ids has, counted up to a limit.
SELECT count(*) FROM (SELECT 1 FROM instance WHERE hub = ?1 AND id >= ?2 AND id < ?3 LIMIT ?4);

-- name: history
-- One execution, in order.
SELECT execution, first, body FROM history WHERE execution = ?1 AND first > ?2 ORDER BY first LIMIT ?3;

-- name: inbox
-- In order of arrival.
SELECT $mail FROM inbox LEFT JOIN instance ON instance.key = inbox.target
WHERE inbox.seq > ?2 AND inbox.hub = ?1 ORDER BY inbox.seq LIMIT ?3;

-- name: inbox_of
-- Those of one instance, in order of arrival.
SELECT $mail FROM inbox LEFT JOIN instance ON instance.key = inbox.target
WHERE inbox.target = ?2 AND inbox.seq > ?3 AND inbox.hub = ?1 ORDER BY inbox.seq LIMIT ?4;

-- name: timers
-- In order of all fields, from behind one.
SELECT fire_at, instance, execution, task_id FROM timer
WHERE hub = ?1 AND fire_at <= ?2 AND (fire_at, instance, execution, task_id) > (?3, ?4, ?5, ?6)
ORDER BY fire_at, instance, execution, task_id LIMIT ?7;

-- name: due
-- The condition is that of the index instance_due.
SELECT $instance FROM instance INDEXED BY instance_due
WHERE hub = ?1 AND key > ?2
AND (ready OR open_activities > 0) AND status NOT IN ('Suspended', 'Failed') AND parked IS NULL
ORDER BY key LIMIT ?3;

-- name: parked
-- The condition is that of the index instance_parked.
SELECT $instance FROM instance INDEXED BY instance_parked
WHERE hub = ?1 AND key > ?2 AND parked IS NOT NULL ORDER BY key LIMIT ?3;

-- === Clients =======================================================================================================

-- name: insert_instance
-- With an id that was looked up before.
INSERT INTO instance ($instance, hub) VALUES ($instance_values);

-- name: insert_first_history
-- That of a start.
INSERT INTO history (execution, first, body) VALUES (?1, 0, ?2);

-- name: insert_message
-- Its arrival number is the table's next.
INSERT INTO inbox (id, target, execution, control, body, hub) VALUES (?1, ?2, ?3, ?4, ?5, ?6);

-- name: next_client_key
-- Unique in the file, like the keys that hosts make.
UPDATE hub SET client_key = (SELECT max(client_key) FROM hub) + 1 WHERE key = ?1 RETURNING client_key;

-- name: client_key
-- The last one given out.
SELECT client_key FROM hub WHERE key = ?1;

-- name: created_by_clients
-- Keys below those of the first host.
SELECT $instance FROM instance NOT INDEXED WHERE key > ?2 AND key < ?3 AND hub = ?1 ORDER BY key LIMIT ?4;
