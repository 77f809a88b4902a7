-- From format 2 on the table of payloads is used: no earlier version may open the file, as it would miss what is in them.

DROP INDEX payload_instance;
CREATE INDEX payload_instance ON payload (instance, execution);
CREATE INDEX payload_execution ON payload (execution);
