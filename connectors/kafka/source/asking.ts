/** Asks the capturing daemon, over the topics of requests and answers. */
import type {
  CapturedTables,
  Catalog,
  Equality,
  NamedTable,
  RefusedTable,
} from "../../../src/core/contracts/catalog.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { namesOfTable } from "../../../src/core/model/schema.ts";
import { Turn, withTimeout } from "../../../src/core/waiting.ts";
import { copyRefusal } from "../../kit/online-copies.ts";
import { abortedError, type MillraceError } from "../../../src/core/errors.ts";
import { scopeOf } from "../../../src/core/clock.ts";
import { type Cluster, topicsOf } from "../client/cluster.ts";
import { extentOf, type Partition, readAny } from "../client/partition.ts";
import { TransactionalWriter } from "../client/transactions.ts";
import { classifySource, logError } from "../errors.ts";
import {
  type Answer,
  BEGUN,
  type Call,
  isRowCall,
  readAnswer,
  readTables,
  type Request,
  type WrittenJoins,
} from "../log/calls.ts";
import { callTopics, requestsId } from "../names.ts";
import { Assembly } from "../writer/messages.ts";
import { BatchRecords, RecordBuffers } from "../writer/records.ts";
import { type TopicRules, Topics, type UsableTopic } from "../writer/topics.ts";
import type { SourceContext } from "./context.ts";

const ANSWER_MS_MAX = 20_000;
/** For a read: the first row of a range may take long where no index serves it. */
const ROWS_MS_MAX = 300_000;

/** The capturing daemon makes the topics. */
const NONE_MADE: TopicRules = { create: false, partitions: 1, replication: -1, settings: {} };

interface PendingCall {
  readonly assembly: Assembly;
  readonly answered: PromiseWithResolvers<Buffer>;
}

/** One connection to both topics. */
interface Link {
  readonly close: () => Promise<void>;
  readonly writer: TransactionalWriter;
  readonly requests: UsableTopic;
  readonly end: () => void;
}

export class Calls {
  readonly #context: SourceContext;
  readonly #asked = new Map<string, PendingCall>();
  readonly #turn = new Turn();
  readonly #over = scopeOf();
  #link: Promise<Link> | null = null;

  constructor(context: SourceContext) {
    this.#context = context;
  }

  /** The answer. A call that failed may have been carried out all the same. */
  async ask(call: Call, signal: AbortSignal): Promise<Answer> {
    const { clock } = this.#context;
    const request: Request = { id: clock.unique(12), call };
    const asked: PendingCall = { assembly: new Assembly(), answered: Promise.withResolvers() };
    asked.answered.promise.catch(() => undefined);
    this.#asked.set(request.id, asked);
    try {
      await this.#send(request, signal);
      const timeoutMs = isRowCall(call) ? ROWS_MS_MAX : ANSWER_MS_MAX;
      return readAnswer(await this.#within(timeoutMs, asked.answered.promise, signal));
    } finally {
      this.#asked.delete(request.id);
    }
  }

  async #send(request: Request, signal: AbortSignal): Promise<void> {
    using _ = await this.#turn.take(signal);
    const link = await this.#within(ANSWER_MS_MAX, this.#linked(), signal);
    try {
      const records = new BatchRecords(new RecordBuffers(), this.#context.clock.now());
      records.message(link.requests, Buffer.from(request.id), Buffer.from(JSON.stringify(request)));
      await link.writer.write(records.part().batches, this.#over.signal);
    } catch (error) {
      link.end();
      throw classifySource(error, signal);
    }
  }

  async #within<T>(timeoutMs: number, work: Promise<T>, signal: AbortSignal): Promise<T> {
    const late = (): never => {
      throw notAnswered(this.#context);
    };
    return await withTimeout(work, { clock: this.#context.clock, signal, timeoutMs, late });
  }

  /** Not under a caller's signal: others use the connection too. */
  async #linked(): Promise<Link> {
    this.#link ??= this.#open().catch((error: unknown) => {
      this.#link = null;
      throw classifySource(error, this.#over.signal);
    });
    return await this.#link;
  }

  async #open(): Promise<Link> {
    const { clock, naming, daemon, cluster: access } = this.#context;
    const { signal } = this.#over;
    await using opening = new AsyncDisposableStack();
    const cluster = opening.use(await access.connect(signal));
    // A broker answers the requests of a connection one after the other, and the one for answers waits for them.
    const listening = opening.use(await access.connect(signal));
    const names = callTopics(naming);
    const found = await topicsOf(cluster, [names.requests, names.answers], signal);
    const [requests, answers] = [found.get(names.requests), found.get(names.answers)];
    if (requests == null || answers == null) throw notAnswered(this.#context);
    // Commands of this daemon ask beside it: no two may share an id.
    const id = `${requestsId(naming, daemon)}/${clock.unique(6)}`;
    const writer = await TransactionalWriter.open(cluster, { clock, id, compression: "none" }, signal);
    const topics = new Topics(cluster, NONE_MADE, clock);
    await topics.prepare([names.requests], signal);
    const partition = { name: names.answers, topic: answers, partition: 0 };
    const { end } = await extentOf(cluster, partition, signal);
    const scope = scopeOf(signal);
    const opened = opening.move();
    const link: Link = {
      close: async () => await opened[Symbol.asyncDispose](),
      writer,
      requests: topics.get(names.requests),
      end: () => scope.end(),
    };
    void this.#listen(listening, partition, end, scope.signal).then(async (error) => {
      scope.end();
      this.#link = null;
      this.#giveUp(error);
      await opened[Symbol.asyncDispose]();
    });
    return link;
  }

  /** Ends with the reason. */
  async #listen(cluster: Cluster, partition: Partition, from: bigint, signal: AbortSignal): Promise<Error> {
    try {
      for await (const record of readAny(cluster, partition, from, signal)) {
        const key = record.key?.toString("utf8") ?? "";
        if (key === BEGUN) this.#giveUp(notAnswered(this.#context));
        const asked = this.#asked.get(key);
        const whole = asked?.assembly.add(record) ?? null;
        if (whole !== null) asked?.answered.resolve(whole.message);
      }
      return abortedError(signal);
    } catch (error) {
      return this.#over.signal.aborted ? abortedError(this.#over.signal) : classifySource(error);
    }
  }

  #giveUp(error: Error): void {
    for (const { answered } of this.#asked.values()) answered.reject(error);
  }

  async close(): Promise<void> {
    this.#over.end();
    const link = await this.#link?.catch(() => null);
    await link?.close();
  }
}

function notAnswered({ naming }: SourceContext): MillraceError {
  const what = `the capturing daemon, ${naming.daemon}, does not answer in topic ${callTopics(naming).answers}`;
  return logError("MR3522", "retryable", what);
}

/** The tables that this daemon takes, of those that the capturing one has now. */
export async function tablesFrom(context: SourceContext, calls: Calls, signal: AbortSignal): Promise<CapturedTables> {
  const { captures, isShared, idle, share, chosenKey } = context;
  const { said } = await calls.ask({ kind: "tables" }, signal);
  const found = readTables(said.tables ?? { tables: [], refused: [], generations: [], columns: [] });
  const names = Map.groupBy(found.tables, ({ schema }) => schema);
  const copies = new Map<string, RefusedTable>();
  for (const table of found.tables) {
    const others = names.get(table.schema)?.map((other) => other.table) ?? [];
    const copy = context.isLiteral(table) ? null : copyRefusal(table, others);
    if (copy !== null) copies.set(table.id, { id: table.id, ...copy, isCopy: true });
  }
  const taken = found.tables.filter((table) => captures(table) && !copies.has(table.id));
  const isElsewhere = (table: TableName): boolean => isShared(table) && !captures(table);
  const rekeyed = taken.filter((table) => chosenKey(table) !== null);
  return {
    ...found,
    tables: taken.filter((table) => chosenKey(table) === null),
    ...(share === null
      ? {}
      : {
          elsewhere: {
            tables: found.tables.filter((table) => isElsewhere(table) && !copies.has(table.id)),
            refused: found.refused.filter(({ id }) => isElsewhere(namesOfTable(id))),
          },
        }),
    idle: idle([...found.tables, ...found.refused.map(({ id }) => namesOfTable(id))]),
    generations: new Map([...found.generations].filter(([id]) => captures(namesOfTable(id)))),
    refused: [
      ...[...found.refused, ...copies.values()].filter(({ id }) => captures(namesOfTable(id))),
      ...rekeyed.map(keyElsewhere),
    ],
  };
}

/** What the capturing daemon's source tells of how rows join. */
export function joinsFrom(calls: Calls): Required<Pick<Catalog, "foreignKeys" | "equalities">> {
  const ask = async (tables: readonly NamedTable[], signal: AbortSignal): Promise<WrittenJoins> => {
    const { said } = await calls.ask({ kind: "joins", tables: tables.map(({ id }) => id) }, signal);
    return said.joins ?? { foreignKeys: null, equalities: null };
  };
  return {
    foreignKeys: async (tables, signal) => (await ask(tables, signal)).foreignKeys,
    equalities: async (tables, signal) => {
      const { equalities } = await ask(tables, signal);
      if (equalities === null) return null;
      const found = new Map(tables.map(({ id }) => [id, new Map<string, Equality>()]));
      for (const [table, column, equality] of equalities) found.get(table)?.set(column, equality);
      return found;
    },
  };
}

function keyElsewhere({ id }: CapturedTables["tables"][number]): RefusedTable {
  const reason = "its key is chosen here, and the log has the key that the capturing daemon chose";
  return { id, reason, fix: "move `key` of the table to the capturing daemon's configuration" };
}
