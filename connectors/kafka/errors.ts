import {
  type ErrorKind,
  type ErrorCode,
  type ErrorPages,
  errorsOf,
  isAborted,
  MillraceError,
  type Raise,
} from "../../src/core/errors.ts";
import { reachAgain } from "../../src/core/system-errors.ts";
import { tlsFailure, type TlsFailure } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";
import { aboutOf, apiIdsOf, brokerIn, codesOf, isTimeout, mayPass, numberedIn, requestOf } from "./client/failures.ts";

/** The first whose Fetch names topics by their ids (version 13); an older one takes each topic for one that does not exist. */
const OLDEST = "3.1";
const FETCH_BY_ID = 13;

export function expectRecent(fetchVersion: number): void {
  if (fetchVersion < FETCH_BY_ID) throw kafkaError("MR2005", "fatal", `the brokers are older than Kafka ${OLDEST}`);
}

const READ_AGAIN = "`millrace snapshot start --tables TABLE --sink NAME`";

/** What only Kafka can meet. */
export const pages = {
  MR3507: {
    title: "A topic does not exist",
    remedy:
      "Create it (the message has its name), and the sink goes on by itself: for Millrace's checkpoint with one partition and cleanup.policy=compact; or set `topics: { create: true }`.",
    cause:
      "`topics.create` is false and a topic is missing. Without the topic of a table only that table is suspended (MR1324); without one of Millrace's own the sink waits.",
  },
  MR3509: {
    title: "Kafka refuses to make a topic, or what is written to it",
    remedy: "Correct `topics` (`partitions`, `replication`, `settings`) or `prefix`; or create the topic yourself.",
    cause:
      "The number of partitions or replicas, a setting or the name is one that the cluster does not allow, or a policy forbids it; of two names that differ in dots and underscores alone it takes one. Or a topic takes no record of its commit's time.",
  },
  MR3518: {
    title: "A transaction of another program is open in a topic",
    remedy:
      "The message has the producer, and the command that aborts its transaction; the sink then goes on by itself. Find out which program writes to Millrace's topics, and stop it.",
    cause:
      "Readers of committed records wait at a transaction until it ends, and so does the sink in its checkpoint's topic. Transactions of its own that were left open the sink ends by itself.",
  },
  MR3519: {
    title: "A topic's `cleanup.policy` does not fit its records",
    remedy: `\`kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name TOPIC --add-config cleanup.policy=…\`: \`delete\` for the log and what its readers ask, \`compact\` for the sink's checkpoint; the sink goes on by itself. After a TRUNCATE also delete the table's topic, or empty what its readers hold, and ${READ_AGAIN}; \`format: millrace\` tells TRUNCATE in compacted topics too.`,
    cause:
      "A compacted topic takes no record without a key, as the log (`format: log`) has and TRUNCATE with `debezium` and `cloudevents`, whose table is suspended. Or the checkpoint's topic deletes by time or size.",
  },
  MR3522: {
    title: "The capturing daemon does not answer, or can't do what was asked",
    remedy:
      "Start the daemon that `source.from` names, and look at its `millrace status`. `source.from`, `source.prefix` and `source.brokers` must be those of its sink.",
    cause:
      "A daemon whose source is `kind: kafka` asks the capturing daemon for rows, marks and tables. That one does not run, has no sink with `format: log`, or failed with the error in the message. Changes are applied meanwhile; a first start waits.",
  },
  MR3532: {
    title: "The schema registry does not take, or have, a table's schema",
    remedy: `Make the change compatible (a new column that is nullable), or set the subject's \`compatibility\` (\`PUT /config/SUBJECT\`); with \`registry.register: false\` register it; of two columns with one name rename one by a rule, or use \`encoding: json-schema\`. Then ${READ_AGAIN}.`,
    cause:
      "A new version breaks the subject's rule, the registry refuses the schema, nobody has registered it, or two columns have one name in Avro. The table is suspended in this sink.",
  },
} as const satisfies ErrorPages;

const HINTS = {
  MR1330:
    "Give all processes the same configuration. To change `source.shares`, stop all of them first, then `millrace recover --shares --yes`.",
  MR2001:
    "Compare `advertised.listeners` of the brokers with the addresses that can be reached from here. `millrace check` tests it.",
  MR2002:
    "Correct `sasl`, or set user and password at the brokers as they were; or correct `brokers`, if another listener is meant (each port has its own protocol).",
  MR2003:
    "Set `tls` only where the listener speaks TLS; name an authority of your own in `tls.ca`, a certificate of this client in `tls.cert` and `tls.certKey`, another name than the host in `tls.serverName`.",
  MR2005: `Use Kafka ${OLDEST} or newer. Millrace is run against Kafka 4.3.`,
  MR2006:
    "If it lasts: `kafka-topics.sh --describe --under-replicated-partitions`; bring brokers back, free disk space, or lower `min.insync.replicas` of the topic.",
  MR2008:
    "`millrace check` prints the ACLs. In short: WRITE, DESCRIBE and, where topics are to be made, CREATE on the topics; READ on Millrace's checkpoint topic; WRITE and DESCRIBE on the transactional id.",
  MR2027: "Look at the brokers' logs and at the cause below the message; report it if the sink does not recover.",
  MR3107: `Let consumers read the topic to its end. Then ${READ_AGAIN}, which takes the new number and reads the table again; or move the tables to new topics with another \`prefix\`.`,
  MR3120:
    "Give the sink another `prefix`: its tables are read again into topics of their own, and readers change over when they like. Or set the keys back. If nobody reads the topics any more, delete them while Millrace is stopped, also that of the sink's checkpoint.",
  MR3121:
    "Give this sink a `prefix` of its own that ends in a hyphen or a dot. If the other one is gone for good, delete its checkpoint's topic (`<prefix><name>._checkpoint.<sink>`) and its tables' topics.",
  MR3315:
    "Choose another `prefix`, or delete the topic: the sink is then filled again (`millrace snapshot start --sink NAME`).",
  MR3507: pages.MR3507.remedy,
  MR3509: pages.MR3509.remedy,
  MR3518: pages.MR3518.remedy,
  MR3519: pages.MR3519.remedy,
  MR3522: pages.MR3522.remedy,
  MR3532: pages.MR3532.remedy,
} as const;

const raise = errorsOf({ side: "sink", kind: "kafka" }, HINTS);

/** Errors of the library hold whole answers: of a cause only its sentence is kept. */
export const kafkaError: Raise = (code, kind, message, details = {}) =>
  raise(code, kind, message, details.cause === undefined ? details : { ...details, cause: plain(details.cause) });

const ofLog = errorsOf(
  { side: "source", kind: "kafka" },
  {
    ...HINTS,
    MR2010:
      "`millrace recover` on this daemon: it goes on at the log's present end, compares its sinks with the source and reads what differs. Raise `retention.ms` of the topic above the longest time that a daemon may be down.",
    MR2013:
      "A new epoch: let this daemon run. As soon as the capturing daemon answers, it goes on there by itself, compares its sinks with the source and reads what differs. A topic that is another one: `millrace recover` on this daemon does the same.",
    MR2023:
      "If the capturing daemon has a later version, update this one. Otherwise `millrace recover` on this daemon: it goes on behind such records, at the log's present end, compares its sinks with the source and reads what differs. Let only the capturing daemon write to the topic.",
  },
);

/** Of the log, for those that follow it. */
export const logError: Raise = (code, kind, message, details = {}) =>
  ofLog(code, kind, message, details.cause === undefined ? details : { ...details, cause: plain(details.cause) });

const QUOTA =
  "Each partition of a topic that is made counts. Nothing: Millrace makes the next topic when the quota allows it. To have all sooner, raise it for this user or client: `kafka-configs.sh --bootstrap-server HOST:PORT --describe --entity-type users` (and `clients`) tells what it is; or create the topics yourself.";
const CROWDED =
  " A broker that has as many connections as `max.connections` or `max.connections.per.ip` allows ends new ones, or lets them wait.";

const SHORT_TRANSACTIONS = "`transaction.max.timeout.ms` of the brokers is below a minute";
const LONGER_TRANSACTIONS = "Set `transaction.max.timeout.ms` of the brokers to 60000 or more, and restart them.";
const TIMESTAMPS =
  "A record's time is that of its commit. Set `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of the topic higher, or `message.timestamp.type=LogAppendTime`.";

const REFUSED_RECORD =
  "`kafka-configs.sh --bootstrap-server HOST:PORT --describe --all --entity-type topics --entity-name TOPIC` tells what the topic wants of its records: with `cleanup.policy=compact` a key, and some brokers look for a schema. Change it there; the sink goes on by itself.";

/** Found before the brokers refuse it. */
export function shortTransactions(): MillraceError {
  return kafkaError("MR2005", "fatal", SHORT_TRANSACTIONS, { hint: LONGER_TRANSACTIONS });
}

const STORAGE = "KAFKA_STORAGE_ERROR";
const STILL_ENDS = "CONCURRENT_TRANSACTIONS";
/** A broker that stops gives its partitions away first. */
const OF_STOP: ReadonlySet<string> = new Set(["LEADER_NOT_AVAILABLE", "NOT_LEADER_OR_FOLLOWER"]);
const MAKE_ROOM =
  "Make room on the disk of the broker's `log.dirs`, or look at the disk; then start the broker: one that can't write to its disk ends.";
const FENCING = "another writer came under this transactional id, or a transaction took too long";

/**
 * Meanings of the protocol's errors here: https://kafka.apache.org/protocol#protocol_error_codes. What is not listed is
 * retryable if the protocol says so.
 */
const MEANINGS: Readonly<Record<string, readonly [code: ErrorCode, kind: ErrorKind, what: string, fix?: string]>> = {
  SASL_AUTHENTICATION_FAILED: ["MR2002", "blocked", "Kafka refuses user or password"],
  UNSUPPORTED_SASL_MECHANISM: ["MR2002", "blocked", "Kafka does not accept the mechanism in `sasl`"],
  ILLEGAL_SASL_STATE: ["MR2002", "blocked", "this listener of Kafka takes no login, or wants one first"],
  TOPIC_AUTHORIZATION_FAILED: ["MR2008", "blocked", "the Kafka user lacks an ACL of a topic"],
  GROUP_AUTHORIZATION_FAILED: ["MR2008", "blocked", "the Kafka user lacks an ACL of a consumer group"],
  CLUSTER_AUTHORIZATION_FAILED: ["MR2008", "blocked", "the Kafka user lacks an ACL of the cluster"],
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ["MR2008", "blocked", "the Kafka user lacks an ACL of the transactional id"],
  NOT_ENOUGH_REPLICAS: ["MR2006", "retryable", "too few replicas are in sync"],
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: ["MR2006", "retryable", "too few replicas are in sync"],
  LEADER_NOT_AVAILABLE: ["MR2006", "retryable", "a partition has no leader"],
  NOT_LEADER_OR_FOLLOWER: ["MR2006", "retryable", "a partition has moved to another broker"],
  [STORAGE]: ["MR2006", "retryable", "a broker can't write to its disk", MAKE_ROOM],
  [STILL_ENDS]: ["MR2006", "retryable", "the transaction before can't end yet"],
  BROKER_NOT_AVAILABLE: ["MR2001", "retryable", "a broker is not there"],
  REQUEST_TIMED_OUT: ["MR2001", "retryable", "Kafka did not answer in time"],
  UNKNOWN_TOPIC_OR_PARTITION: ["MR3507", "blocked", "a topic does not exist"],
  UNKNOWN_TOPIC_ID: ["MR3110", "reopen", "a topic was made again"],
  INVALID_TOPIC_EXCEPTION: ["MR3509", "blocked", "Kafka refuses the name of a topic"],
  INVALID_PARTITIONS: ["MR3509", "blocked", "Kafka refuses the number of partitions"],
  INVALID_REPLICATION_FACTOR: ["MR3509", "blocked", "Kafka has fewer brokers than `topics.replication` asks for"],
  INVALID_CONFIG: ["MR3509", "blocked", "Kafka refuses a setting in `topics.settings`"],
  POLICY_VIOLATION: ["MR3509", "blocked", "a policy of the cluster forbids the topic"],
  MESSAGE_TOO_LARGE: ["MR2006", "retryable", "a topic's `max.message.bytes` has become smaller"],
  THROTTLING_QUOTA_EXCEEDED: ["MR2006", "retryable", "the quota `controller_mutation_rate` is used up", QUOTA],
  RECORD_LIST_TOO_LARGE: ["MR2006", "retryable", "a topic's `segment.bytes` is smaller than a batch"],
  UNSUPPORTED_VERSION: ["MR2005", "fatal", "the brokers do not speak a version of the protocol that is needed"],
  INVALID_TRANSACTION_TIMEOUT: ["MR2005", "fatal", SHORT_TRANSACTIONS, LONGER_TRANSACTIONS],
  INVALID_TIMESTAMP: [
    "MR3509",
    "blocked",
    "a topic does not take records of so long ago, or of a later time",
    TIMESTAMPS,
  ],
  INVALID_RECORD: ["MR3509", "blocked", "a topic does not take the record", REFUSED_RECORD],
  PRODUCER_FENCED: ["MR3109", "retryable", FENCING],
  INVALID_PRODUCER_EPOCH: ["MR3109", "retryable", FENCING],
  TRANSACTION_COORDINATOR_FENCED: ["MR3109", "retryable", FENCING],
};

/** Another writer came under the same transactional id, or the transaction took too long. */
const FENCED = new Set(["PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "TRANSACTION_COORDINATOR_FENCED"]);

export function isFenced(error: unknown): boolean {
  return apiIdsOf(error).some((id) => FENCED.has(id));
}

/** The meaning of an error of the library or of a broker. */
export function classify(error: unknown, signal?: AbortSignal): MillraceError {
  if (error instanceof MillraceError) return error;
  if (signal?.aborted === true || isAborted(error)) {
    return kafkaError("MR2029", "aborted", "the work on Kafka was stopped", { cause: error });
  }
  if (error instanceof UnusableTls)
    return kafkaError("MR2003", "blocked", error.what, { hint: error.fix, cause: error });
  const numbered = numberedIn(error);
  if (numbered !== undefined) return numbered;
  const ids = apiIdsOf(error);
  for (const id of ids) {
    const meaning = MEANINGS[id];
    if (meaning !== undefined) {
      const message = `${meaning[2]} (${id})${named(error, id)}`;
      return meaning[0] === "MR2002"
        ? loginError(message, error)
        : kafkaError(meaning[0], meaning[1], message, { cause: error, hint: meaning[3] });
    }
  }
  const codes = codesOf(error);
  const tls = codes.map((code) => tlsFailure(code)).find((one) => one !== undefined);
  if (tls !== undefined) return tlsError(tls, error);
  if (codes.includes("PLT_KFK_AUTHENTICATION")) {
    return loginError("Kafka refuses the login", error);
  }
  const system = codes.find((code) => /^E[A-Z]+$/.test(code));
  if (system !== undefined || codes.includes("PLT_KFK_NETWORK")) {
    const broker = brokerIn(error);
    const at = broker === null ? "" : ` at ${broker}`;
    const why = system ?? (isTimeout(error) ? "no answer in time" : "it was closed");
    const fix = broker === null ? HINTS.MR2001 : reachAgain(system, broker, "brokers");
    const advertised =
      " A broker of another address than those in `brokers` is as the brokers' `advertised.listeners` name it.";
    const hint = `${fix}${advertised}${system === "ECONNREFUSED" ? "" : CROWDED}`;
    return kafkaError("MR2001", "retryable", `the connection to Kafka${at} failed: ${why}`, { hint, cause: error });
  }
  if (codes.includes("PLT_KFK_UNSUPPORTED_API")) {
    return kafkaError("MR2005", "fatal", "the brokers lack a request that is needed", { cause: error });
  }
  const [first] = ids;
  if (first !== undefined && mayPass(first)) {
    return kafkaError("MR2006", "retryable", `Kafka can't do it now (${first})${named(error, first)}`, {
      cause: error,
    });
  }
  return kafkaError("MR2027", "retryable", `Kafka gave an unknown error (${first ?? codes[0] ?? "?"})`, {
    cause: error,
  });
}

/** The same where the log is read: it is the source that fails. */
export function classifySource(error: unknown, signal?: AbortSignal): MillraceError {
  const known = classify(error, signal);
  return known.with({ connector: { ...known.connector, side: "source", kind: "kafka" } });
}

/** What an ACL must allow for a request. */
const OPERATIONS: Readonly<Record<string, string>> = {
  Metadata: "DESCRIBE",
  ListOffsets: "DESCRIBE",
  FindCoordinator: "DESCRIBE",
  Fetch: "READ",
  CreateTopics: "CREATE",
  InitProducerId: "WRITE",
  AddPartitionsToTxn: "WRITE",
  Produce: "WRITE",
  EndTxn: "WRITE",
};

function named(error: unknown, apiId: string): string {
  const about = aboutOf(error, apiId);
  const operation = apiId.endsWith("_AUTHORIZATION_FAILED") ? OPERATIONS[requestOf(error) ?? ""] : undefined;
  return `${about === null ? "" : `: ${about}`}${operation === undefined ? "" : `, to ${operation}`}`;
}

export function loginError(message: string, cause: unknown): MillraceError {
  return kafkaError("MR2002", "blocked", message, { cause, reason: "login" });
}

export function tlsError({ what, fix }: TlsFailure, cause: unknown): MillraceError {
  return kafkaError("MR2003", "blocked", `TLS to Kafka failed: ${what}`, { hint: fix, cause });
}

/** About one table: only that one is suspended. */
export function tableError(code: ErrorCode, table: string, message: string): MillraceError {
  return kafkaError(code, "fatal", message, { table });
}

export function isOfStorage(error: unknown): boolean {
  return apiIdsOf(error).includes(STORAGE);
}

/**
 * A transaction can't even be given up where a partition of it can't be written, and a broker that can't write to its disk ends:
 * what that was is the reason.
 */
export function stuckAfter(before: FailedBatch | null, error: MillraceError): MillraceError {
  if (before === null || before.known.code !== "MR2006" || (error.code !== "MR2006" && error.code !== "MR2001"))
    return error;
  const { known, ids } = before;
  // Which topics it waits for is said when the sink is opened.
  if (ids.includes(STILL_ENDS)) return error;
  if (error.code === "MR2001" && ids.some((id) => OF_STOP.has(id))) return error;
  const hint = error.code === "MR2006" ? undefined : `${known.hint ?? ""} ${error.hint ?? ""}`.trim();
  return kafkaError(error.code, error.kind, `${error.message}, after: ${known.message}`, { hint, cause: error });
}

/** Why a batch failed. */
export interface FailedBatch {
  readonly known: MillraceError;
  /** Of the protocol's errors. */
  readonly ids: readonly string[];
}

export function failedBatch(known: MillraceError, error: unknown): FailedBatch {
  return { known, ids: apiIdsOf(error) };
}

/** Whether a broker gave no answer in time, as while a quota holds requests back. One that is gone ends its connections. */
export function isUnanswered(error: unknown): boolean {
  return isTimeout(error) || apiIdsOf(error).includes("REQUEST_TIMED_OUT");
}

/** What waits for somebody because of one table's topic. */
export function ofTable(error: MillraceError, table: string): MillraceError {
  return error.kind === "blocked" ? error.with({ table }) : error;
}

/** This user lacks a right to a topic. */
export function isDenied(error: unknown): boolean {
  return apiIdsOf(error).includes("TOPIC_AUTHORIZATION_FAILED");
}

/** Such as one without a key in a compacted topic. */
export function isRefusedRecord(error: unknown): boolean {
  return apiIdsOf(error).includes("INVALID_RECORD");
}

export function isUnknownTopic(error: unknown): boolean {
  return apiIdsOf(error).some((id) => id === "UNKNOWN_TOPIC_OR_PARTITION" || id === "UNKNOWN_TOPIC_ID");
}

/** When the sink is opened again, it tells which tables are concerned. */
export function newlyCompacted(topic: string): MillraceError {
  const hint = "Nothing: its tables are read again. Consumers see their rows once more.";
  return kafkaError("MR3110", "reopen", `topic ${topic} is compacted now`, { hint });
}

export function foreignRecords(topic: string): MillraceError {
  return kafkaError("MR3315", "fatal", `the checkpoint topic ${topic} holds records that are not Millrace's`);
}

/** Millrace's own topics of a sink are those of another one. */
export function inUse(topics: string, owner: string): MillraceError {
  return kafkaError("MR3121", "fatal", `topics ${topics} are those of ${sinkIn(owner)}`);
}

export function tableInUse(table: string, topic: string, owner: string): MillraceError {
  return tableError("MR3121", table, `topic ${topic} is one of ${sinkIn(owner)}`);
}

/** In words: see `sinkId`. */
export function sinkIn(owner: string): string {
  const [, , prefix, daemon, sink] = owner.split("/");
  return `sink ${sink} of ${daemon}, with the prefix ${JSON.stringify(prefix)}`;
}

/** Before the brokers refuse it, and where they do. */
export function topicsAlike(topic: string, other: string): MillraceError {
  const hint =
    "Give the table another name in the sinks (`tables.<table>.into`), or the sink another `prefix`; or delete the other topic if nobody needs it, and the table is written by itself.";
  const message = `topic ${topic} can't be there beside ${other}: Kafka counts dots as underscores`;
  return kafkaError("MR3509", "blocked", message, { hint });
}

/** Of Millrace's own. */
export function takesOnlyKeys(topic: string): MillraceError {
  return kafkaError("MR3519", "blocked", `topic ${topic} is compacted, and Millrace's records in it have no keys`);
}

/** `how`: the settings by which it does. */
export function deletesRecords(topic: string, how: string): MillraceError {
  return kafkaError("MR3519", "blocked", `topic ${topic} deletes records that must stay (${how})`);
}

/** The rows of a table are gone, and the format has no record for that which a compacted topic takes. */
export function untoldTruncate(table: string, topic: string): MillraceError {
  const message = `TRUNCATE of ${table} can't be told in topic ${topic}, which is compacted`;
  return kafkaError("MR3519", "fatal", message, { table, reason: "untold" });
}

/** When the sink is opened again, it tells which tables are concerned. */
export function topicsLost(): MillraceError {
  const hint = "Nothing: its tables are read again. Consumers that had read the former topic begin again at its start.";
  return kafkaError("MR3110", "reopen", "a topic that Millrace has written to is gone, or was made again", { hint });
}

function plain(cause: unknown): Error {
  return new Error(cause instanceof Error ? cause.message.slice(0, 300) : "unknown");
}
