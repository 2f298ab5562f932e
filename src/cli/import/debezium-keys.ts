/** Debezium's keys that `import debezium` does not carry over, and why. A key that ends in `*` stands for all that begin so. */

/** Nothing is lost without them. */
const NEEDLESS: Readonly<Record<string, string>> = {
  "name tasks.max quarkus.* spec.runtime.* spec.image spec.version": "Millrace is one process, named by `name`",
  "connector.client.* offset.* config.* exactly.once.*":
    "Millrace needs no Kafka Connect: positions are in its state, and in the sink with the rows",
  "schema.history.* database.history.* include.schema.changes include.schema.comments":
    "Millrace keeps versions of the tables' shapes in its state: millrace schema list",
  "slot.max.retries slot.retry.delay.ms retriable.restart.connector.wait.ms errors.max.retries errors.retry.*":
    "Millrace tries again by itself for as long as it takes, and status says so",
  "slot.drop.on.stop": "the slot stays until `millrace teardown`",
  "status.update.interval.ms xmin.fetch.interval.ms lsn.flush.* flush.lsn.source offset.mismatch.strategy":
    "Millrace acknowledges what every sink has made durable, by itself",
  "publish.via.partition.root": "the publication that Millrace makes always does so",
  "max.batch.size max.queue.* poll.interval.ms query.fetch.size snapshot.fetch.size incremental.snapshot.chunk.size snapshot.max.threads* min.row.count.to.stream.results producer.override.* executor.*":
    "memory and pace are bounded without it; the sink's `batch` has upper limits of one write",
  "heartbeat.action.query heartbeat.topics.prefix topic.heartbeat.prefix":
    "an idle source's position moves on without a write of your own, and no topic is needed for it",
  "snapshot.locking.* snapshot.lock.timeout.ms snapshot.isolation.mode snapshot.delay.ms snapshot.new.tables":
    "the first copy is one snapshot of the server, without locks of tables, and new tables are read beside the stream",
  "signal.* incremental.snapshot.* read.only":
    "tables are read again by `millrace snapshot start`, which needs no table at the source",
  "database.tcpKeepAlive connect.keep.alive* connect.timeout.ms connection.validation.timeout.ms":
    "Millrace notices silent connections by itself; the url's connect_timeout is in seconds",
  "binlog.buffer.size enable.time.adjuster connectionTimeZone database.connectionTimeZone database.serverTimezone jdbc.*":
    "Millrace reads the log with a decoder of its own, which needs no such setting",
  "replica.identity.autoset.values":
    "no REPLICA IDENTITY FULL is needed: a value that the log leaves out never becomes null in a sink",
  "table.ignore.builtin schema.refresh.mode":
    "the server's own tables are never captured, and changed tables are followed",
};

/** Something behaves otherwise without them: a person decides. */
const MISSING: Readonly<Record<string, string>> = {
  "value.converter* key.converter* header.converter* output.data.format output.key.format":
    "the sink's `format`, `encoding` and `registry` say in which form it writes keys and values",
  "topic.naming.strategy topic.delimiter topic.cache.size topic.transaction topic.creation.*":
    "topics are named <prefix><name>.<schema>.<table>; the sink's `prefix` and `topic` change that, and `topics.settings` has the settings of new topics",
  "time.precision.mode binary.handling.mode interval.handling.mode hstore.handling.mode money.fraction.digits bigint.unsigned.handling.mode json.handling.mode geometry.* vector.*":
    "the sink writes the form that Debezium has by default",
  "unavailable.value.placeholder": "the sink writes Debezium's default, __debezium_unavailable_value",
  "sanitize.field.names field.name.adjustment.mode schema.name.adjustment.mode":
    "names are written as they are at the source; `rename` in `tables` gives a column another name",
  "message.prefix.* logical.decoding.message.*": "messages of pg_logical_emit_message are not written to the sink",
  "event.processing.failure.handling.mode inconsistent.schema.handling.mode binlog.*.handling.mode errors.*":
    "a row that a sink refuses becomes a dead letter, or stops the sink: the sink's `onPoison`",
  "notification.* custom.metric.tags": "the daemon's metrics and status tell of it",
  "snapshot.tables.order.by.row.count snapshot.mode.*": "the first copy reads every captured table, several at once",
  "database.initial.statements database.query.timeout.ms driver.* database.useSSL":
    "sessions take their settings from the url: parameters as for psql, such as options=-c…",
  "gtid.source.*": "every transaction of the server's log is read",
  "column.propagate.source.type datatype.propagate.source.type": "records carry no parameters of the source's types",
  "message.key.columns":
    "it chooses a record's partition there; `key` in `tables` would choose what tells rows apart, which is another thing",
  "include.query": "no record has the statement that made it",
  "include.unknown.datatypes":
    "columns of types that Debezium does not know go out as text: `drop` those that must not",
  "source.struct.version event.deserialization.*": "records have the form of Debezium 3",
  "spec.state spec.pause initial_state": "`millrace run` starts it, whether the connector runs or not",
  "debezium.format.schemas.enable": "the sink's `schemas` says whether each record has its schema",
  "guardrail.collections.*": "nothing limits the number of tables: `tables` selects them",
};

/** What is known of a key without a counterpart. */
export interface KeptOut {
  readonly why: string;
  /** True: nothing is lost without it. */
  readonly isNeedless: boolean;
}

/** Null: the key is not known. */
export function whyLeftOut(key: string): KeptOut | null {
  for (const [reasons, isNeedless] of [
    [NEEDLESS, true],
    [MISSING, false],
  ] as const)
    for (const [keys, why] of Object.entries(reasons))
      if (keys.split(" ").some((pattern) => matches(pattern, key))) return { why, isNeedless };
  return null;
}

function matches(pattern: string, key: string): boolean {
  const [start = "", end] = pattern.split("*");
  return end === undefined ? key === pattern : key.length >= start.length && key.startsWith(start) && key.endsWith(end);
}
