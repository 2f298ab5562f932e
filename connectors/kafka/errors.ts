import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { reachAgain } from "../../src/core/system-errors.ts";
import { tlsFailure, type TlsFailure } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";
import { pages as logPages } from "./log/errors.ts";
import { aboutOf, apiIdsOf, brokerIn, codesOf, mayPass, numberedIn, requestOf } from "./client/failures.ts";

export const area: ErrorArea = { from: 3500, title: "Kafka" };

/** The first whose Fetch names topics by their ids (version 13); an older one takes each topic for one that does not exist. */
const OLDEST = "3.1";
const FETCH_BY_ID = 13;

export function expectRecent(fetchVersion: number): void {
  if (fetchVersion < FETCH_BY_ID) throw kafkaError("MR3510", "fatal", `the brokers are older than Kafka ${OLDEST}`);
}

export const pages = {
  MR3500: {
    title: "Kafka gave an unknown error",
    cause:
      "A broker answered with an error that has no entry here. Millrace repeats the batch a limited number of times.",
    remedy: "Look at the brokers' logs and at the cause below the message; report it if the sink does not recover.",
  },
  MR3501: {
    title: "Kafka can't be reached",
    cause:
      "No broker of `brokers` answers, or the connection was lost. Millrace repeats the batch until one answers. A broker " +
      "names the others by their advertised listeners: these must be reachable too.",
    remedy:
      "ECONNREFUSED: nothing listens at that host and port. ENOTFOUND: the name is unknown; compare `advertised.listeners` " +
      "of the brokers. `millrace check` tests it from the machine on which it runs.",
  },
  MR3502: {
    title: "Kafka refuses the login",
    cause: "User, password or mechanism in `sasl` is wrong, or the listener asks for a login and the config has none.",
    remedy: "Correct `sasl`, or `brokers` if another listener is meant (each port has its own protocol).",
  },
  MR3503: {
    title: "The Kafka user may not do what the sink needs",
    cause: "An ACL is missing for a topic, the transactional id or the cluster.",
    remedy:
      "`millrace check` prints the ACLs. In short: WRITE, DESCRIBE and, where topics are to be made, CREATE on the topics; READ " +
      "on Millrace's checkpoint topic; WRITE and DESCRIBE on the transactional id.",
  },
  MR3504: {
    title: "Kafka can't take writes now",
    cause:
      "Too few replicas are in sync, a partition has no leader, a disk failed or is full, or a coordinator is moving. Millrace " +
      "repeats the batch until the brokers take it.",
    remedy:
      "If it lasts: `kafka-topics.sh --describe --under-replicated-partitions`; bring brokers back, free disk space, or lower " +
      "`min.insync.replicas` of the topic.",
  },
  MR3505: {
    title: "Another Millrace process has taken the sink over",
    cause:
      "The checkpoint topic holds a newer lease than this process has, or another writer came under this transactional id. It " +
      "stops, so that two never write at once.",
    remedy: "Make sure that one daemon runs under this name; the newer one continues by itself.",
  },
  MR3506: {
    title: "A topic is gone, or was made again",
    cause:
      "A topic that Millrace has written to was deleted, or deleted and created again. Its tables are read again into the new " +
      "topic; with `onLost: fail` the sink stops where its checkpoint is gone.",
    remedy: "Nothing. Consumers that had read the former topic begin again at its start.",
  },
  MR3507: {
    title: "A topic does not exist",
    cause:
      "`topics.create` is false and a topic is missing. Without the topic of a table only that table is suspended (MR1324); " +
      "without one of Millrace's own the sink waits.",
    remedy:
      "Create it (the message has its name), and the sink goes on by itself: for Millrace's checkpoint with one partition and cleanup.policy=compact; or set " +
      "`topics: { create: true }`.",
  },
  MR3508: {
    title: "A row is too large for its topic",
    cause: "Its record is larger than `max.message.bytes` of the topic. The row becomes a dead letter.",
    remedy:
      "Raise `max.message.bytes` of the topic (and `replica.fetch.max.bytes` of the brokers), then `millrace dlq replay --sink NAME --all` reads the refused rows again. " +
      "Or leave the large column out (`tables: … columns: … drop: true`).",
  },
  MR3509: {
    title: "Kafka refuses to make a topic",
    cause:
      "The number of partitions or replicas, a setting or the name is one that the cluster does not allow, or a policy forbids it.",
    remedy: "Correct `topics` (`partitions`, `replication`, `settings`) or `prefix`; or create the topic yourself.",
  },
  MR3510: {
    title: "The Kafka cluster lacks a feature that the sink needs",
    cause: `The brokers are older than Kafka ${OLDEST}, or are no Kafka: transactions, and topics with ids in Fetch, are needed.`,
    remedy: `Use Kafka ${OLDEST} or newer. Millrace is run against Kafka 4.3.`,
  },
  MR3511: {
    title: "The checkpoint topic holds something else",
    cause:
      "Records in it are not ones that Millrace wrote: another program writes there, or `prefix` and `name` are those of another topic.",
    remedy:
      "Choose another `prefix`, or delete the topic: the sink is then filled again (`millrace snapshot start --sink NAME`).",
  },
  MR3512: {
    title: "TLS to Kafka failed",
    cause:
      "A broker's certificate could not be verified (authority, name or dates), it refuses ours, or only one side speaks TLS on " +
      "this port.",
    remedy:
      "The message says which, and its fix. Set `tls` only where the listener speaks TLS; name an authority of your own in " +
      "`tls.ca`, a certificate of this client in `tls.cert` and `tls.certKey`, another name than the host in `tls.serverName`.",
  },
  MR3513: {
    title: "The TLS keys or files of a Kafka sink can't be used",
    cause:
      "A file that `tls.ca`, `tls.cert` or `tls.certKey` names does not exist, may not be read or holds no PEM; or certificate " +
      "and key do not belong together.",
    remedy: "The message says which; correct the path, the file or its permissions.",
  },
  MR3514: {
    title: "A topic has another number of partitions than before",
    cause:
      "Partitions were added to a topic that has changes already. From then on a key may be in another partition than before, and " +
      "consumers could see its changes in the wrong order. The table is suspended in this sink before that happens.",
    remedy:
      "Let consumers read the topic to its end. Then `millrace snapshot start --tables TABLE --sink NAME`, which takes the new " +
      "number and reads the table again; or move the tables to new topics with another `prefix`.",
  },
  MR3515: {
    title: "The format can't express a value",
    cause:
      "The formats of Debezium have no form for NaN and Infinity in a NOT NULL decimal column with `decimals: precise`, nor for an " +
      "unchanged large value that the log leaves out where the column's type has no placeholder. The row is a dead letter.",
    remedy:
      "NaN and Infinity: `decimals: string` or `double`. Left-out values: give the table REPLICA IDENTITY FULL. Then " +
      "`millrace dlq replay --sink NAME --all` reads the refused rows again.",
  },
  MR3516: {
    title: "Keys of a Kafka sink do not go together",
    cause:
      "With `format: log` there is one topic with all tables of the source, so `tables` and `topic` have no meaning there, and " +
      "only a daemon that captures a database writes one. Debezium's formats name the database's own kind, which a daemon " +
      "behind Kafka does not know.",
    remedy: "Leave the key out that the message names, or write the topics from the capturing daemon.",
  },
  MR3517: {
    title: "The sink's topics hold records of another form",
    cause:
      "`format`, `encoding`, `schemas` or `decimals` of a Kafka sink is another one than that of the records in its topics. " +
      "Readers take one form, and a row that never changes again would keep its old one. Nothing was written.",
    remedy:
      "Give the sink another `prefix`: its tables are read again into topics of their own, and readers change over when they " +
      "like. Or set the keys back. If nobody reads the topics any more, delete them while Millrace is stopped, also that of the " +
      "sink's checkpoint.",
  },
  MR3518: {
    title: "A transaction of another program is open in a topic of the sink",
    cause:
      "Readers of committed records wait at a transaction until it ends, and so does the sink in its checkpoint's topic. " +
      "Transactions of its own that were left open, by a broker that was killed, the sink ends by itself; this one has another producer.",
    remedy:
      "The message has the producer, and the command that aborts its transaction; the sink then goes on by itself. Find out which " +
      "program writes to Millrace's topics, and stop it.",
  },
  MR3519: {
    title: "A compacted topic does not take a record without a key",
    cause:
      "The broker refuses records without a key where `cleanup.policy` has `compact`. TRUNCATE is such a record with " +
      "`format: debezium` and `cloudevents`: the table is suspended in this sink, since its readers can't be told that its rows " +
      "are gone. The log (`format: log`), what its readers ask and the answers have no keys either: that sink waits.",
    remedy:
      "For a table: delete its topic and empty what its readers hold, or set `cleanup.policy=delete` on the topic; then " +
      "`millrace snapshot start --tables TABLE --sink NAME`. `format: millrace` tells TRUNCATE in compacted topics too. For the " +
      "log: set `cleanup.policy=delete` on the topic that the message names.",
  },
  MR3530: {
    title: "The schema registry can't be used now",
    cause:
      "With `encoding: avro` or `json-schema` each new version of a table is registered before its first record. The registry does " +
      "not answer, or answers with an error of its own, or TLS to it failed. Millrace tries again; changes of tables whose schemas " +
      "are registered go on until the sink is opened again.",
    remedy:
      "Compare `registry.url` with the registry's address, and look at its log. With an authority of your own: `registry.tls.ca`.",
  },
  MR3531: {
    title: "The schema registry refuses the login",
    cause: "The registry answers 401 or 403: user or password is wrong, or the user may not register schemas.",
    remedy:
      "Correct `registry.username` and `registry.password`, or give the user the right to write the subjects (read, with `registry.register: false`).",
  },
  MR3532: {
    title: "The schema registry refuses a table's schema",
    cause:
      "The new version of the table is not compatible with the one before by the rule of its subject (`compatibility`: BACKWARD, unless " +
      "somebody set another), or the registry takes no such schema. The table is suspended in this sink; no record of the new shape is " +
      "written.",
    remedy:
      "Make the change compatible (a new column that is nullable; a dropped one with BACKWARD), or set the subject's `compatibility` " +
      "as you want it (`PUT /config/SUBJECT`). Then `millrace snapshot start --tables TABLE --sink NAME`.",
  },
  MR3533: {
    title: "The schema registry does not have a table's schema",
    cause:
      "`registry.register` is false, and nobody has registered this version of the table's schema under its subject.",
    remedy:
      "Register it (the message names the subject), or set `registry: { register: true }`. Then `millrace snapshot start --tables TABLE " +
      "--sink NAME`.",
  },
  MR3534: {
    title: "Two columns have one name in Avro",
    cause:
      "Avro's names have letters, digits and underscores only, so other characters become `_`. Two columns of the table then have the " +
      "same name. The table is suspended in this sink.",
    remedy: "Rename one of them by a rule (`tables: … columns: … rename`), or use `encoding: json-schema`.",
  },
  MR3535: {
    title: "Processes of one group have other shares",
    cause:
      "The processes with one `name` share the tables of a log by `source.shares`. Others that run now have another number there, " +
      "or their sinks keep tables apart in another way (`schema`), and would divide the tables differently.",
    remedy:
      "Give all processes the same configuration. To change `source.shares`, stop all of them first; MR1330 says how to go on.",
  },
  MR3536: {
    title: "A topic is compacted now",
    cause:
      "Somebody added `compact` to `cleanup.policy` of a topic. Its records may leave out values that an earlier record of the key " +
      "has, and compaction removes that one. The topic's tables are read again; from then on each record is whole.",
    remedy: "Nothing. Consumers see the rows of these tables once more.",
  },
  MR3537: {
    title: "Another sink writes to the same topics",
    cause:
      "A checkpoint in the cluster belongs to a sink of another daemon, or of another prefix, whose topics have the names of this " +
      "one's: prefix `shop` with name `eu` gives the same names as name `shopeu`, and a table's name may have dots. Readers could " +
      "not tell whose records they read. Where all topics meet, the sink stops before it writes; where one table's do, that table " +
      "is suspended in it.",
    remedy:
      "Give this sink a `prefix` of its own that ends in a hyphen or a dot. If the other one is gone for good, delete its " +
      "checkpoint's topic (`<prefix><name>._checkpoint.<sink>`) and its tables' topics.",
  },
  MR3538: {
    title: "A record that Millrace has to write does not fit in its topic",
    cause:
      "It is no row, which would be a dead letter: the end of a transaction with its number of changes for each of very many tables " +
      "(`transactions: true`), the columns of a very wide table, or, with a very small limit, a TRUNCATE. Without it readers would miss " +
      "something, so the sink waits.",
    remedy:
      "Raise `max.message.bytes` of the topic above the size in the message (`kafka-configs.sh --alter --entity-type topics " +
      "--entity-name TOPIC --add-config max.message.bytes=BYTES`); the sink then goes on by itself.",
  },
  MR3539: {
    title: "The checkpoint topic deletes records",
    cause:
      "`cleanup.policy` of the topic of the sink's checkpoint has `delete`, and a limit for time or size (`retention.ms`, " +
      "`retention.bytes`): it was made by somebody else, or changed. A checkpoint that is deleted makes the sink an emptied one: its " +
      "tables would be read again, and consumers would get all rows once more. The sink waits.",
    remedy:
      "`kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name TOPIC --add-config " +
      "cleanup.policy=compact`; the sink then goes on by itself.",
  },
} satisfies ErrorPages;

/** With those of the log. */
const ALL = { ...pages, ...logPages };

type Code = keyof typeof ALL & ErrorCode;

const FENCING = "another writer came under this transactional id, or a transaction took too long";

/**
 * Meanings of the protocol's errors here: https://kafka.apache.org/protocol#protocol_error_codes. What is not listed is
 * retryable if the protocol says so.
 */
const MEANINGS: Readonly<Record<string, readonly [code: Code, kind: ErrorKind, what: string]>> = {
  SASL_AUTHENTICATION_FAILED: ["MR3502", "blocked", "Kafka refuses user or password"],
  UNSUPPORTED_SASL_MECHANISM: ["MR3502", "blocked", "Kafka does not accept the mechanism in `sasl`"],
  ILLEGAL_SASL_STATE: ["MR3502", "blocked", "this listener of Kafka takes no login, or wants one first"],
  TOPIC_AUTHORIZATION_FAILED: ["MR3503", "blocked", "the Kafka user lacks an ACL of a topic"],
  GROUP_AUTHORIZATION_FAILED: ["MR3503", "blocked", "the Kafka user lacks an ACL of a consumer group"],
  CLUSTER_AUTHORIZATION_FAILED: ["MR3503", "blocked", "the Kafka user lacks an ACL of the cluster"],
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ["MR3503", "blocked", "the Kafka user lacks an ACL of the transactional id"],
  NOT_ENOUGH_REPLICAS: ["MR3504", "retryable", "too few replicas are in sync"],
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: ["MR3504", "retryable", "too few replicas are in sync"],
  LEADER_NOT_AVAILABLE: ["MR3504", "retryable", "a partition has no leader"],
  NOT_LEADER_OR_FOLLOWER: ["MR3504", "retryable", "a partition has moved to another broker"],
  KAFKA_STORAGE_ERROR: ["MR3504", "retryable", "a broker can't write to its disk"],
  CONCURRENT_TRANSACTIONS: ["MR3504", "retryable", "the transaction before can't end yet"],
  BROKER_NOT_AVAILABLE: ["MR3501", "retryable", "a broker is not there"],
  REQUEST_TIMED_OUT: ["MR3501", "retryable", "Kafka did not answer in time"],
  UNKNOWN_TOPIC_OR_PARTITION: ["MR3507", "blocked", "a topic does not exist"],
  UNKNOWN_TOPIC_ID: ["MR3506", "reopen", "a topic was made again"],
  INVALID_TOPIC_EXCEPTION: ["MR3509", "blocked", "Kafka refuses the name of a topic"],
  INVALID_PARTITIONS: ["MR3509", "blocked", "Kafka refuses the number of partitions"],
  INVALID_REPLICATION_FACTOR: ["MR3509", "blocked", "Kafka has fewer brokers than `topics.replication` asks for"],
  INVALID_CONFIG: ["MR3509", "blocked", "Kafka refuses a setting in `topics.settings`"],
  POLICY_VIOLATION: ["MR3509", "blocked", "a policy of the cluster forbids the topic"],
  MESSAGE_TOO_LARGE: ["MR3504", "retryable", "a topic's `max.message.bytes` has become smaller"],
  RECORD_LIST_TOO_LARGE: ["MR3504", "retryable", "a topic's `segment.bytes` is smaller than a batch"],
  UNSUPPORTED_VERSION: ["MR3510", "fatal", "the brokers do not speak a version of the protocol that is needed"],
  CORRUPT_MESSAGE: ["MR3511", "fatal", "the checkpoint topic holds records that are not Millrace's"],
  INVALID_TRANSACTION_TIMEOUT: ["MR3510", "fatal", "`transaction.max.timeout.ms` of the brokers is below a minute"],
  INVALID_RECORD: ["MR3509", "fatal", "a topic does not take the record"],
  PRODUCER_FENCED: ["MR3505", "retryable", FENCING],
  INVALID_PRODUCER_EPOCH: ["MR3505", "retryable", FENCING],
  TRANSACTION_COORDINATOR_FENCED: ["MR3505", "retryable", FENCING],
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
    return new MillraceError({
      code: "MR3501",
      kind: "aborted",
      message: "the work on Kafka was stopped",
      cause: error,
    });
  }
  if (error instanceof UnusableTls) return failed("MR3513", "blocked", error.what, error.fix, error);
  const numbered = numberedIn(error);
  if (numbered !== undefined) return numbered;
  const ids = apiIdsOf(error);
  for (const id of ids) {
    const meaning = MEANINGS[id];
    if (meaning !== undefined) {
      const message = `${meaning[2]} (${id})${named(error, id)}`;
      return meaning[0] === "MR3502" ? loginError(message, error) : kafkaError(meaning[0], meaning[1], message, error);
    }
  }
  const codes = codesOf(error);
  const tls = codes.map((code) => tlsFailure(code)).find((one) => one !== undefined);
  if (tls !== undefined) return tlsError(tls, error);
  if (codes.includes("PLT_KFK_AUTHENTICATION")) {
    return loginError("Kafka refuses the login", error);
  }
  const system = codes.find((code) => /^E[A-Z]+$/.test(code));
  if (system !== undefined || codes.some((code) => code === "PLT_KFK_NETWORK" || code === "PLT_KFK_TIMEOUT")) {
    const broker = brokerIn(error);
    const at = broker === null ? "" : ` at ${broker}`;
    const why = system ?? (codes.includes("PLT_KFK_TIMEOUT") ? "no answer in time" : "it was closed");
    const fix = broker === null ? ALL.MR3501.remedy : reachAgain(system, broker, "brokers");
    const advertised =
      " A broker of another address than those in `brokers` is as the brokers' `advertised.listeners` name it.";
    return failed("MR3501", "retryable", `the connection to Kafka${at} failed: ${why}`, `${fix}${advertised}`, error);
  }
  if (codes.includes("PLT_KFK_UNSUPPORTED_API")) {
    return kafkaError("MR3510", "fatal", "the brokers lack a request that is needed", error);
  }
  const [first] = ids;
  if (first !== undefined && mayPass(first)) {
    return kafkaError("MR3504", "retryable", `Kafka can't do it now (${first})${named(error, first)}`, error);
  }
  return kafkaError("MR3500", "retryable", `Kafka gave an unknown error (${first ?? codes[0] ?? "?"})`, error);
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

export function kafkaError(
  code: Code,
  kind: ErrorKind,
  message: string,
  cause?: unknown,
  reason?: ErrorReason,
): MillraceError {
  return failed(code, kind, message, ALL[code].remedy, cause, reason);
}

export function loginError(message: string, cause: unknown): MillraceError {
  return kafkaError("MR3502", "blocked", message, cause, "login");
}

export function tlsError({ what, fix }: TlsFailure, cause: unknown): MillraceError {
  return failed("MR3512", "blocked", `TLS to Kafka failed: ${what}`, fix, cause);
}

/** About one table: only that one is suspended. */
export function tableError(code: Code, table: string, message: string): MillraceError {
  return new MillraceError({ code, kind: "fatal", message, hint: ALL[code].remedy, table });
}

/** A transaction can't even be given up where a partition of it can't be written: what that was is the reason. */
export function stuckAfter(before: MillraceError | null, error: MillraceError): MillraceError {
  if (before?.code !== "MR3504" || error.code !== "MR3504") return error;
  return kafkaError("MR3504", error.kind, `${error.message}, after: ${before.message}`, error);
}

/** What waits for somebody because of one table's topic. */
export function ofTable(error: MillraceError, table: string): MillraceError {
  const { code, kind, message, hint, cause } = error;
  return kind === "blocked" ? new MillraceError({ code, kind, message, hint, cause, table }) : error;
}

export function isUnknownTopic(error: unknown): boolean {
  return apiIdsOf(error).some((id) => id === "UNKNOWN_TOPIC_OR_PARTITION" || id === "UNKNOWN_TOPIC_ID");
}

/** When the sink is opened again, it tells which tables are concerned. */
export function newlyCompacted(topic: string): MillraceError {
  return kafkaError("MR3536", "reopen", `topic ${topic} is compacted now`);
}

/** Millrace's own topics of a sink are those of another one. */
export function inUse(topics: string, owner: string): MillraceError {
  return kafkaError("MR3537", "fatal", `topics ${topics} are those of ${sinkIn(owner)}`);
}

export function tableInUse(table: string, topic: string, owner: string): MillraceError {
  return tableError("MR3537", table, `topic ${topic} is one of ${sinkIn(owner)}`);
}

/** In words: see `sinkId`. */
function sinkIn(owner: string): string {
  const [, , prefix, daemon, sink] = owner.split("/");
  return `sink ${sink} of ${daemon}, with the prefix ${JSON.stringify(prefix)}`;
}

/** Of Millrace's own. */
export function takesOnlyKeys(topic: string): MillraceError {
  return kafkaError("MR3519", "blocked", `topic ${topic} is compacted, and Millrace's records in it have no keys`);
}

/** `how`: the settings by which it does. */
export function deletesRecords(topic: string, how: string): MillraceError {
  return kafkaError("MR3539", "blocked", `topic ${topic} deletes records that must stay (${how})`);
}

/** The rows of a table are gone, and the format has no record for that which a compacted topic takes. */
export function untoldTruncate(table: string, topic: string): MillraceError {
  const { remedy } = ALL.MR3519;
  const message = `TRUNCATE of ${table} can't be told in topic ${topic}, which is compacted`;
  return new MillraceError({ code: "MR3519", kind: "fatal", message, hint: remedy, table, reason: "untold" });
}

/** When the sink is opened again, it tells which tables are concerned. */
export function topicsLost(): MillraceError {
  return kafkaError("MR3506", "reopen", "a topic that Millrace has written to is gone, or was made again");
}

function failed(
  code: Code,
  kind: ErrorKind,
  message: string,
  hint: string,
  cause?: unknown,
  reason?: ErrorReason,
): MillraceError {
  const known = cause === undefined ? undefined : plain(cause);
  return new MillraceError({ code, kind, message, hint, cause: known, reason });
}

/** Errors of the library hold whole answers. */
function plain(cause: unknown): Error {
  return new Error(cause instanceof Error ? cause.message.slice(0, 300) : "unknown");
}
