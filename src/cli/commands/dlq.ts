import { count } from "../../core/figures.ts";
import { groupsOf, type LetterGroup } from "../../ops/dashboard/view.ts";
import type { Command } from "commander";
import type { Place } from "../../config/load.ts";
import { letterSubject } from "../../core/audit/audited.ts";
import type { LetterChoice, Replayed } from "../../core/contracts/orders.ts";
import type { DeadLetter, StateStore } from "../../core/contracts/state-store.ts";
import { serializePosition } from "../../core/model/position.ts";
import { chosenLetters, DISCARD, listKeysOf } from "../../runtime/control/replay.ts";
import type { CommandLine, OnShares } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { exactJson } from "../../core/values/exact-json.ts";
import { EXIT } from "../exit-codes.ts";
import { chosenSinks, countOf, NOT_DONE, type Options, withNest } from "../options.ts";
import { carryOut, readState } from "../state.ts";
import { tableText } from "../table.ts";

/** For an answer, beyond the time that the daemon may take. */
const ANSWER_MS = 10_000;

export function addDlq({ program, action }: CommandLine): void {
  const dlq = program.command("dlq").description("dead letters: rows that a sink refused");
  dlq
    .command("list")
    .description("the letters, newest last, and how many have which cause")
    .option("--sink <name>", "of this sink only")
    .option("--all", "superseded ones too")
    .action(
      action("each", async (session, options) => {
        const sink = options.text("--sink");
        const ofSink = sink === null ? {} : { sink };
        const ofState = options.has("--all") ? {} : ({ state: "waiting" } as const);
        const letters = await readState(await session.place(), ({ deadLetters }) =>
          deadLetters.list({ ...ofSink, ...ofState }),
        );
        const groups = groupsOf(letters);
        const text = letters.length === 0 ? "none" : `${describeGroups(groups)}\n\n${describeAll(letters)}`;
        session.print({ letters: letters.map(summary), groups }, text);
        return EXIT.done;
      }),
    );
  dlq
    .command("show <id>")
    .description("one letter with its envelope")
    .option("--show-values", "with the row's values")
    .action(
      action("one", async (session, options, [id]) => {
        const number = countOf("<id>", id);
        const [letter, stored] = await readState(await session.place(), ({ deadLetters }) =>
          Promise.all([deadLetters.get(number), deadLetters.envelope(number)]),
        );
        if (letter === null || stored === null) throw cliError("MR1114", `there is no dead letter ${id}`);
        const isWhole = options.has("--show-values");
        const envelope = isWhole ? stored : JSON.stringify(withoutValues(exactJson(stored)));
        const { keyValues: _, ...facts } = summary(letter);
        const text = [
          ...Object.entries(facts).map(([key, value]) => `${key}: ${String(value)}`),
          envelope,
          ...(isWhole ? [] : ["--show-values shows the row's values too"]),
        ];
        session.print({ ...summary(letter), envelope: exactJson(envelope) }, text.join("\n"));
        return EXIT.done;
      }),
    );
  addReplay(dlq, action);
  addDiscard(dlq, action);
}

/** Each share has numbers of its own. */
const ofLetters = (ids: readonly string[]): OnShares => (ids.length > 0 ? "one" : "each");

function addReplay(dlq: Command, action: CommandLine["action"]): void {
  dlq
    .command("replay [ids...]")
    .description("read the rows again from the source and give them to their sinks")
    .option("--all", "all letters that wait")
    .option("--sink <name>", "of this sink only")
    .option("--timeout <duration>", "how long to wait for the rows", "60s")
    .action(
      action(ofLetters, async (session, options, args) => {
        const place = await session.place();
        const choice = choiceOf(place, options, args);
        const timeoutMs = Math.ceil(options.durationMs("--timeout"));
        const result = await carryOut<Replayed | ListedReplay>(place, {
          path: "/api/v1/dlq/replay",
          body: { ...choice, timeoutMs },
          withinMs: timeoutMs + ANSWER_MS,
          action: "dlq replay",
          subject: letterSubject(choice.ids, choice.sink),
          work: async (state) => await listForNextStart(place, state, choice),
        });
        session.print(result, describeReplay(result));
        return result.failed > 0 ? EXIT.failed : EXIT.done;
      }),
    );
}

function addDiscard(dlq: Command, action: CommandLine["action"]): void {
  dlq
    .command("discard [ids...]")
    .description(
      "give letters up: the sink stays without these rows until they change; prints them unless --yes is given",
    )
    .option("--all", "all letters that wait")
    .option("--sink <name>", "of this sink only")
    .option("--yes", "do it")
    .action(
      action(ofLetters, async (session, options, args) => {
        const place = await session.place();
        const choice = choiceOf(place, options, args);
        const letters = await readState(place, (state) => known(state, choice));
        const waiting = letters.filter(({ state }) => state === "waiting");
        const isConfirmed = options.has("--yes");
        const discarded = isConfirmed && waiting.length > 0 ? await discard(place, choice) : 0;
        const applied = isConfirmed || waiting.length === 0;
        const document = { applied, discarded, letters: waiting.map(summary) };
        const end = isConfirmed ? `discarded: ${discarded}` : NOT_DONE;
        session.print(document, `${describeAll(waiting)}\n${waiting.length === 0 ? "nothing waits" : end}`);
        return applied ? EXIT.done : EXIT.refused;
      }),
    );
}

/** Some letters by their numbers, or all with --all: never all by omission. */
function choiceOf(place: Place, options: Options, args: readonly string[]): LetterChoice {
  const ids = args.map((id) => countOf("<id>", id));
  const isAll = options.has("--all");
  if (isAll === ids.length > 0) throw cliError("MR1110", "name the numbers of letters, or say --all");
  const sink = options.text("--sink");
  if (sink !== null) chosenSinks(withNest(place), sink);
  return { ids: isAll ? null : ids, sink };
}

async function known(state: StateStore, choice: LetterChoice): Promise<readonly DeadLetter[]> {
  const { letters, unknown } = await chosenLetters(state, choice);
  if (unknown.length > 0) throw cliError("MR1114", `there is no dead letter ${unknown.join(", ")}`);
  return letters;
}

/** What the next daemon reads. */
interface ListedReplay extends Replayed {
  readonly listed: number;
  /** What keeps rows from being read at once. */
  readonly heldUp: readonly string[];
  /** Ids of waiting letters that are not listed: nobody would read their rows. */
  readonly unlisted: readonly number[];
}

async function listForNextStart(place: Place, state: StateStore, choice: LetterChoice): Promise<ListedReplay> {
  const letters = await known(state, choice);
  const tables = new Map((await state.schemas.list()).map((table) => [table.id, table]));
  const sinks = new Set(withNest(place).sinks.map(({ name }) => name));
  const table = (sink: string, id: string) => (sinks.has(sink) ? tables.get(id) : undefined);
  const listed = await listKeysOf(letters, { state, table });
  const waiting = letters.filter((letter) => letter.state === "waiting");
  return {
    replayed: 0,
    superseded: letters.length - waiting.length,
    failed: 0,
    waiting: waiting.map(({ id }) => id),
    listed: listed.length,
    heldUp: await heldUp(state, listed),
    unlisted: waiting.filter((letter) => !listed.includes(letter)).map(({ id }) => id),
  };
}

async function heldUp({ sinks, suspensions }: StateStore, letters: readonly DeadLetter[]): Promise<readonly string[]> {
  const paused = new Set((await sinks.all()).flatMap((sink) => (sink.paused ? [sink.name] : [])));
  const suspended = await suspensions.list();
  const found = letters.flatMap(({ sink, tableId }) => [
    ...(paused.has(sink) ? [`sink ${sink} is paused: it gets its rows when it is resumed`] : []),
    ...suspended
      .filter((one) => one.tableId === tableId && (one.sink ?? sink) === sink)
      .map(
        (one) =>
          `table ${tableId} is suspended${one.sink === null ? "" : ` in sink ${sink}`}: it is read when that ends`,
      ),
  ]);
  return [...new Set(found)];
}

async function discard(place: Place, choice: LetterChoice): Promise<number> {
  const { discarded } = await carryOut(place, {
    path: "/api/v1/dlq/discard",
    body: choice,
    action: "dlq discard",
    subject: letterSubject(choice.ids, choice.sink),
    work: async (state) => {
      const ids = (await known(state, choice)).map(({ id }) => id);
      return { discarded: await state.deadLetters.settle(ids, DISCARD) };
    },
  });
  return discarded;
}

function describeReplay(result: Replayed | ListedReplay): string {
  const { replayed, superseded, failed, waiting } = result;
  if (!("listed" in result)) {
    const why =
      "millrace dlq show ID says why; a row that was not read in time is read later, as for a sink that is paused";
    const again = waiting.length === 0 ? [] : [`still waiting: ${waiting.join(", ")} (${why})`];
    return [`replayed: ${replayed}, settled before: ${superseded}, failed: ${failed}`, ...again].join("\n");
  }
  const { listed, unlisted } = result;
  return [
    `no daemon runs: ${listed === 0 ? "nothing is listed" : `the next one reads ${count(listed, "row")} again`}`,
    ...result.heldUp,
    ...(superseded === 0 ? [] : [`settled before: ${superseded}`]),
    ...(unlisted.length === 0 ? [] : [`not listed: ${unlisted.join(", ")} (their sinks or tables are gone)`]),
  ].join("\n");
}

function summary({ id, sink, tableId, key, op, position, code, reason, createdAt, attempts, state }: DeadLetter) {
  return {
    id,
    sink,
    table: tableId,
    key: key.join(":"),
    // Two keys can be one joined text.
    keyValues: key,
    op,
    position: serializePosition(position),
    code,
    cause: reason,
    at: createdAt,
    attempts,
    state,
  };
}

function describeGroups(groups: readonly LetterGroup[]): string {
  const head = ["rows", "sink", "table", "why", "oldest", "newest"];
  return tableText(
    head,
    groups.map(({ count, sink, table, code, cause, oldest, newest }) => {
      return [count, sink, table, `${code} ${cause}`, oldest, newest];
    }),
  );
}

const VALUES: ReadonlySet<string> = new Set(["before", "after"]);

/** It names the row by its key alone. */
function withoutValues(envelope: object): object {
  return Object.fromEntries(Object.entries(envelope).filter(([name]) => !VALUES.has(name)));
}

function describeAll(letters: readonly DeadLetter[]): string {
  const rows = letters.map(({ id, sink, tableId, key, op, code, reason, state, createdAt }) => {
    return [id, sink, tableId, key.join(":"), op, `${code} ${reason}`, state, createdAt];
  });
  return tableText(["id", "sink", "table", "key", "op", "why", "state", "since"], rows, "none");
}
