import { once } from "node:events";
import type { ConfigPart } from "../../config/load.ts";
import { type Block, mayBeLeftOut } from "../../core/model/block.ts";
import { ByteWriter } from "../../core/bytes.ts";
import { contextOf, type EnvelopeContext, writeEnvelope, writeMessageEnvelope } from "../../core/model/envelope.ts";
import { isAborted } from "../../core/errors.ts";
import type { Position } from "../../core/model/position.ts";
import type { SchemaResolver } from "../../core/contracts/change-log.ts";
import type { Positions } from "../../core/contracts/positions.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { type MemoryNow, memoryNow, openSource } from "../../daemon/ruled-source.ts";
import { PRODUCER } from "../../version.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { followNames } from "../follow-names.ts";
import { EXIT } from "../exit-codes.ts";
import { chosenOffset, reachable, timeOf, unregistered } from "../offsets/chosen-offset.ts";
import { whileOpen } from "../opened.ts";
import type { Session } from "../session.ts";
import { readState } from "../state.ts";
import { untilSignal } from "./run.ts";

export function addTail({ program, action }: CommandLine): void {
  program
    .command("tail")
    .description("print changes as envelopes, one JSON document a line; moves no offset")
    .option("--tables <globs...>", "schema.table globs; default: all")
    .option("--from <where>", "where to begin, instead of now: position | earliest | time with its zone")
    .option("--limit <count>", "stop after this many envelopes")
    .action(
      action("one", async (session, options) => {
        const selection = new TableSelection(options.tableGlobs());
        const from = options.text("--from");
        const limit = options.text("--limit") === null ? Number.POSITIVE_INFINITY : options.count("--limit");
        await tail(session, { selection, from, limit });
        return EXIT.done;
      }),
    );
}

interface TailOptions {
  readonly selection: TableSelection;
  readonly from: string | null;
  readonly limit: number;
}

async function tail(session: Session, { selection, from, limit }: TailOptions): Promise<void> {
  const config = await session.part({ sinks: [] });
  const given = from === null || isSearched(from) ? null : await positionOf(config, from);
  const { memory, resolve, acknowledged, acknowledgedAt } = await readState(config, (state) =>
    remembered(config, state),
  );
  // Ids and versions are the same as the daemon's.
  const { epoch } = memory;
  const source = await openSource(config, memory, session.log);
  const closed = new AbortController();
  process.stdout.once("error", () => closed.abort(new DOMException("stopped", "AbortError")));
  const signal = AbortSignal.any([untilSignal(), closed.signal]);
  try {
    const begin = async (): Promise<bigint> => {
      if (from === null) return await source.log.tip(signal);
      const range = await reachable(source.log, signal);
      return (await chosenOffset(from, source, range, { epoch, acknowledgedAt }, signal)).position.commit;
    };
    const start: Position = { epoch, commit: given ?? (await begin()), index: 0 };
    if (given !== null && acknowledged !== null && given < acknowledged) {
      // The source may forget the log after this position, but may still have it.
      const first = await source.log.earliest(signal);
      if (first === null || given < first) throw forgotten(source.positions, given, first ?? acknowledged);
    }
    await followNames(source, memory, signal, start);
    await using stream = await source.log.stream(start, { temporary: true, resolve }, signal);
    const printer = new Printer(config, source, selection, limit);
    while (!printer.done) {
      const block = await stream.next(signal);
      printer.add(block);
      block.release();
      await printer.flush();
    }
  } catch (error) {
    if (!isAborted(error)) throw error;
  } finally {
    await source.close();
  }
}

/** Whether the source has to be asked where this lies. */
function isSearched(from: string): boolean {
  return from === "earliest" || timeOf(from) !== null;
}

async function positionOf({ source }: ConfigPart, text: string): Promise<bigint> {
  try {
    return await whileOpen(source.connector.create(SILENT), ({ positions }) => positions.parse(text));
  } catch (error) {
    const what = error instanceof Error ? error.message : "not a position";
    throw cliError("MR1110", `--from: ${what}, earliest, or a time with its zone such as 2026-11-20T06:43:15Z`, {
      cause: error,
    });
  }
}

function forgotten(positions: Positions, asked: bigint, first: bigint): Error {
  const [from, since] = [asked, first].map((position) => positions.format(position));
  return cliError("MR1118", `--from: the source no longer keeps its log from ${from} on for this daemon`, {
    hint: `The log can be read from ${since} on (--from earliest); without --from it is read from now on.`,
  });
}

interface Remembered {
  readonly memory: MemoryNow;
  /** Versions as the daemon registered them; a shape that the daemon has not seen has version 0. */
  readonly resolve: SchemaResolver;
  /** The source may have dropped the log before this position. */
  readonly acknowledged: bigint | null;
  readonly acknowledgedAt: string | null;
}

async function remembered(config: ConfigPart, state: StateStore): Promise<Remembered> {
  const { schemas, source } = state;
  const known: TableVersion[] = [];
  for (const { id } of await schemas.list()) known.push(...(await schemas.versions(id)));
  const { acknowledged = null, acknowledgedAt = null } = (await source.get()) ?? {};
  const memory = await memoryNow(config, state);
  return { memory, resolve: unregistered(known), acknowledged: acknowledged?.commit ?? null, acknowledgedAt };
}

class Printer {
  readonly #out = new ByteWriter();
  readonly #context: EnvelopeContext;
  readonly #markPrefix: string;
  readonly #selection: TableSelection;
  #left: number;

  constructor(config: ConfigPart, source: Source, selection: TableSelection, limit: number) {
    this.#selection = selection;
    this.#left = limit;
    this.#markPrefix = source.watermarks.markPrefix;
    const { recordPosition } = source.positions;
    this.#context = { ...contextOf({ name: config.name, producer: PRODUCER }, source), recordPosition };
  }

  get done(): boolean {
    return this.#left <= 0;
  }

  add(block: Block): void {
    let next = 0;
    for (let row = 0; row <= block.count; row++) {
      for (; block.messages[next]?.at === row; next++) {
        const message = block.messages[next]!;
        if (message.prefix.startsWith(this.#markPrefix)) continue;
        this.#line(() => writeMessageEnvelope(this.#out, block, message, this.#context));
      }
      if (row === block.count) break;
      const { schema, table } = block.tables[block.table[row]!]!;
      if (mayBeLeftOut(block, row)) continue;
      if (this.#selection.matches(schema, table)) this.#line(() => writeEnvelope(this.#out, block, row, this.#context));
    }
  }

  async flush(): Promise<void> {
    if (this.#out.length === 0) return;
    const written = process.stdout.write(Buffer.from(this.#out.view()));
    this.#out.reset();
    if (!written) await once(process.stdout, "drain");
  }

  #line(write: () => void): void {
    if (this.done) return;
    write();
    this.#out.byte(0x0a);
    this.#left--;
  }
}
