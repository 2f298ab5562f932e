/** MySQL and MariaDB as a source: composes the parts. */
import type { Position } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type {
  CapturedTables,
  ChangeStream,
  Chunk,
  CreatedLog,
  CreateRequest,
  Crossing,
  HeldPositions,
  KeyText,
  LogHealth,
  LogIdentity,
  MadeObject,
  Source,
  StreamOptions,
  Visibility,
} from "../../../src/core/contracts/source.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { LOSSES } from "./errors.ts";
import { readCatalog } from "./catalog/catalog.ts";
import { expectUnclaimed } from "./claim.ts";
import { readKeys, readRange } from "./snapshot/chunks.ts";
import type { SourceContext } from "./context.ts";
import { crossLog, readBefore } from "./transactions/crossing.ts";
import { otherServerId } from "./log/dump.ts";
import { readHealth } from "./health.ts";
import { spellLandmark } from "./log/landmark.ts";
import { bytesBetween, readFiles, readTip } from "./log/log-state.ts";
import { isLeftOut, selectTables } from "./catalog/selection.ts";
import type { ServerFacts } from "./server.ts";
import { followedShape, mappedShape } from "./catalog/shapes.ts";
import { checkedServer, createLog, otherHost, resumeLog, startOf } from "./start.ts";
import type { StatementTarget } from "./statements/statements.ts";
import { BinlogStream } from "./stream.ts";
import type { TableMap } from "./rows/table-map.ts";

export class MysqlSource implements Source {
  readonly kind = "mysql";
  readonly losses = LOSSES;
  readonly database: string;
  readonly markPrefix: string;
  readonly #context: SourceContext;
  #facts: Promise<ServerFacts> | undefined;
  #identity: LogIdentity | undefined;
  /** The places of the sinks as they were told last. */
  #kept: readonly bigint[] = [];

  constructor(context: SourceContext) {
    this.#context = context;
    this.database = context.address.database;
    this.markPrefix = context.markPrefix;
  }

  formatPosition(commit: bigint): string {
    return this.#context.names.format(commit);
  }

  parsePosition(text: string): bigint {
    return this.#context.names.parse(text);
  }

  recall(identity: LogIdentity): void {
    const base = identity["base"];
    if (base !== undefined) this.#context.names.use(base);
    this.#context.read.load(identity["read"]);
  }

  namesBefore(commit: bigint): string | undefined {
    return this.#context.read.at(commit)?.set.spelled;
  }

  bytesBetween(from: bigint, to: bigint): number {
    return bytesBetween(this.#context.files, from, to);
  }

  /** Another host of the same replication set is gone on in by the names of its transactions. */
  async cross(identity: LogIdentity, places: readonly bigint[], signal: AbortSignal): Promise<Crossing | null> {
    const facts = await this.#anyServer(signal);
    this.#takeIn(identity);
    const why = otherHost(facts, identity);
    if (why === undefined) return null;
    const crossing = await crossLog(this.#context, facts, why, places, signal);
    this.#context.shapes.begin();
    this.#identity = crossing.identity;
    return crossing;
  }

  remember(places: readonly bigint[]): LogIdentity | null {
    const { read } = this.#context;
    if (this.#identity === undefined) return null;
    read.keep(places, this.#kept);
    this.#kept = places;
    const seen = this.#seen;
    const before = this.#identity;
    if (Object.entries(seen).every(([name, value]) => before[name] === value)) return null;
    this.#identity = { ...before, ...seen };
    return this.#identity;
  }

  expectFree(identity: LogIdentity | null, signal: AbortSignal): Promise<void> {
    if (identity !== null) this.#knowReader(identity);
    return expectUnclaimed(this.#context, signal);
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    const facts = await this.#anyServer(signal);
    this.#context.shapes.begin();
    const log = await createLog(this.#context, facts, request, signal);
    await this.#knowBefore(log.position.commit, facts, signal);
    this.#identity = { ...log.identity, read: this.#context.read.text };
    return { ...log, identity: this.#identity };
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    this.#takeIn(identity);
    const facts = await this.#anyServer(signal);
    this.#identity = await resumeLog(this.#context, facts, identity, held, signal);
    return this.#identity;
  }

  async stream(from: Position, options: StreamOptions, signal: AbortSignal): Promise<ChangeStream> {
    const facts = await this.#server(signal, false);
    if (!options.temporary) await this.#knowBefore(from.commit, facts, signal);
    return await BinlogStream.open(
      {
        context: this.#context,
        from,
        options,
        serverId: options.temporary ? otherServerId(this.#context) : this.#context.serverId,
        resolve: (map, position) => this.#lookUp(map, options, position),
        named: (target, position) => this.#named(target, options, position),
      },
      signal,
    );
  }

  async tables(signal: AbortSignal): Promise<CapturedTables> {
    const tip = await readTip(this.#context, signal);
    const captured = await selectTables(this.#context, false, signal);
    this.#context.read.looked(captured.generations, tip);
    this.#context.shapes.looked(tip, await readTip(this.#context, signal), captured.described);
    return captured;
  }

  /** Everything is in the log as it is; what is to be stored anew is which file the stream has come to. */
  async publish(onChange: (identity: LogIdentity) => Promise<void>): Promise<void> {
    const { log } = this.#context;
    const before = this.#identity;
    if (log === undefined || before === undefined || before["file"] === String(log.file)) return;
    // Invariant: the file is of the host that was compared before the stream began; another may answer by now.
    this.#identity = { ...before, file: String(log.file), createdAt: String(log.createdAt), ...this.#seen };
    await onChange(this.#identity);
  }

  /** Nobody writes unpublished here. */
  async settle(): Promise<void> {}

  /** Each read waits until all that is in the log can be seen, so that nothing is left to be compared. */
  async visibility(): Promise<Visibility> {
    return { sees: () => true, committing: [] };
  }

  async mark(content: string, signal: AbortSignal): Promise<void> {
    const { marks } = this.#context;
    marks.add(await marks.compared(() => readTip(this.#context, signal)), content);
  }

  async renew(signal: AbortSignal): Promise<bigint> {
    const tip = await readTip(this.#context, signal);
    this.#context.marks.add(tip, null);
    // A place that the stream of an idle log goes beyond, too.
    return tip - 1n;
  }

  async readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
    scanRowCountMax?: number,
  ): Promise<Chunk> {
    const facts = await this.#server(signal, false);
    return await readRange(this.#context, facts, table, after, where, signal, scanRowCountMax);
  }

  async readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk> {
    return await readKeys(this.#context, await this.#server(signal, false), table, keys, signal);
  }

  tip(signal: AbortSignal): Promise<bigint> {
    return readTip(this.#context, signal);
  }

  /** Nothing is made at the source. */
  async made(): Promise<readonly MadeObject[]> {
    return [];
  }

  async remove(): Promise<void> {}

  async earliest(signal: AbortSignal): Promise<bigint | null> {
    const [first] = await readFiles(this.#context, signal);
    return first === undefined ? null : startOf(first.file);
  }

  health(signal: AbortSignal): Promise<LogHealth> {
    return readHealth(this.#context, signal);
  }

  async close(): Promise<void> {
    await this.#context.database.close();
  }

  #takeIn(identity: LogIdentity): void {
    const { read, shapes } = this.#context;
    read.load(identity["read"]);
    shapes.load(identity["shapes"]);
    this.#knowReader(identity);
  }

  #knowReader(identity: LogIdentity): void {
    const { reader } = this.#context;
    if (!reader.hasRead) reader.load(identity["reader"]);
  }

  /** What is stored of the transactions that were read. */
  get #seen(): LogIdentity {
    const { landmark, read, reader, shapes } = this.#context;
    return { read: read.text, landmark: spellLandmark(landmark), shapes: shapes.text, reader: reader.id };
  }

  /** The server that the address leads to now. From here on it has to be that one. */
  async #anyServer(signal: AbortSignal): Promise<ServerFacts> {
    const { database, host } = this.#context;
    await database.renew(signal);
    host.forget();
    const facts = await this.#server(signal, true);
    host.expect(facts);
    return facts;
  }

  async #server(signal: AbortSignal, isFresh: boolean): Promise<ServerFacts> {
    if (isFresh || this.#facts === undefined) this.#facts = checkedServer(this.#context, signal);
    const asked = this.#facts;
    try {
      return await asked;
    } catch (error) {
      if (this.#facts === asked) this.#facts = undefined;
      throw error;
    }
  }

  /** Without it the stream goes on as well, and a failover does not. */
  async #knowBefore(place: bigint, facts: ServerFacts, signal: AbortSignal): Promise<void> {
    const { logger, read } = this.#context;
    if (read.at(place) !== undefined) return;
    try {
      const before = await readBefore(this.#context, facts, place, signal);
      if (before !== undefined) read.know([[place, before]]);
    } catch (error) {
      signal.throwIfAborted();
      if (findMillraceError(error)?.kind === "retryable") throw error;
      logger.warn({ error }, "which transactions lie before the stream could not be told: no failover by GTID");
    }
  }

  async #lookUp(map: TableMap, options: StreamOptions, position: Position): Promise<TableVersion | null> {
    const { schema, table } = map;
    if (!this.#context.captures(schema, table)) return null;
    // It ends with the connection's own time limits.
    const { signal } = new AbortController();
    const [live] = await readCatalog(this.#context, { schema, table }, signal);
    const shape = mappedShape(map, live, this.#context);
    if (!options.temporary) this.#context.shapes.shown(shape, position.commit);
    const isUnfit = shape.key.length === 0 || (live !== undefined && isLeftOut(live, this.#context));
    if (isUnfit && options.isKnown?.(shape.id) === false) return null;
    return await resolved(options, shape, position);
  }

  async #named(target: StatementTarget, options: StreamOptions, position: Position): Promise<TableVersion | null> {
    if (!this.#context.captures(target.schema, target.table)) return null;
    const { signal } = new AbortController();
    const [live] = await readCatalog(this.#context, target, signal);
    const shape = live === undefined ? undefined : followedShape(live, this.#context);
    return shape === undefined ? null : await resolved(options, shape, position);
  }
}

async function resolved(
  options: StreamOptions,
  shape: Parameters<StreamOptions["resolve"]>[0],
  position: Position,
): Promise<TableVersion> {
  try {
    return await options.resolve(shape, position);
  } catch (error) {
    throw findMillraceError(error) ?? error;
  }
}
