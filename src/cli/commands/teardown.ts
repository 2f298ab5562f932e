import type { SinkConfig } from "../../config/config.ts";
import type { ConfigPart, Place } from "../../config/load.ts";
import { reasonOf } from "../../core/errors.ts";
import type { LogAdmin } from "../../core/contracts/log-admin.ts";
import type { Outcome, Sink } from "../../core/contracts/sink.ts";
import type { SourceRecord, StateStore } from "../../core/contracts/state-store.ts";
import type { Checkpoint } from "../../core/checkpoint.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { rowVersion } from "../../core/model/position.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { mayShare, targetIn } from "../../runtime/schema/targets.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { whileOpen, withOpenSink } from "../opened.ts";
import { NOT_DONE } from "../options.ts";
import type { Session } from "../session.ts";
import { alone, auditedHere } from "../state.ts";

export function addTeardown({ program, action }: CommandLine): void {
  program
    .command("teardown")
    .description("remove what Millrace made: slot, publication, state; prints the plan unless --yes is given")
    .option("--sink-metadata", "also remove Millrace's own data in each sink; the rows stay")
    .option(
      "--tables <globs...>",
      "instead: remove the rows of these tables from the sinks, such as of tables that are gone",
    )
    .option("--yes", "do it")
    .action(
      action("each", async (session, options) => {
        const globs = options.tableGlobs();
        const isConfirmed = options.has("--yes");
        const plan =
          globs.length > 0
            ? await removeRows(session, globs, isConfirmed)
            : await teardown(session, options.has("--sink-metadata"), isConfirmed);
        session.print(plan, planText(plan));
        return plan.applied || plan.nothingLeft ? EXIT.done : EXIT.refused;
      }),
    );
}

interface TeardownPlan {
  readonly applied: boolean;
  readonly nothingLeft: boolean;
  readonly removes: readonly string[];
  readonly keeps: readonly string[];
}

/** Removes the state last: a repeated teardown needs it to know which objects are Millrace's. */
async function teardown(session: Session, withSinks: boolean, isConfirmed: boolean): Promise<TeardownPlan> {
  const place = await session.place();
  const work = async (state: StateStore): Promise<TeardownPlan> => {
    const sinks = withSinks ? place.sinks.map(({ name }) => name) : [];
    const config = await session.part({ sinks });
    return await tearDown(session, { ...config, place }, state, withSinks, isConfirmed);
  };
  try {
    return await alone(place, work, { removes: ({ applied }) => applied });
  } catch (error) {
    if (reasonOf(error) !== "absent") throw error;
    return { applied: false, nothingLeft: true, removes: [], keeps: [] };
  }
}

/** A table that still flows is read again at the next start: no sink's checkpoint has it any more. */
async function removeRows(session: Session, globs: readonly string[], isConfirmed: boolean): Promise<TeardownPlan> {
  const place = await session.place();
  const signal = AbortSignal.timeout(ROWS_MS_MAX);
  const selection = new TableSelection(globs);
  const work = async (state: StateStore): Promise<TeardownPlan> => {
    const { sinks } = await session.part({ sinks: place.sinks.map(({ name }) => name) });
    const versions = new Map((await state.schemas.list()).map((version) => [version.id, version]));
    const tables = [...versions.values()].filter(({ schema, table }) => selection.matches(schema, table));
    const removes: string[] = [];
    const stays: string[] = [];
    const others = [...versions.values()].filter((version) => !tables.includes(version));
    const each = async (): Promise<void> => {
      for (const config of sinks) {
        await withOpenSink(session, config, state, async (sink, own) => {
          if (own === null || sink.form === "log") return;
          // Under the target of a table that the sink never took are the rows of somebody else.
          const taken = new TableSelection(config.tables);
          const its = tables.filter(
            ({ id, schema, table }) => taken.matches(schema, table) || Object.hasOwn(own.tables, id),
          );
          const foreign = (await sink.presence?.foreign?.(its, signal)) ?? [];
          for (const { table, owner } of foreign)
            stays.push(`the rows of ${table.id} in sink ${config.name}: they are those of ${owner} (daemon and sink)`);
          const theirs = new Set(foreign.map(({ table }) => table));
          const left = its.filter((one) => !theirs.has(one));
          const missing = new Set(await sink.presence?.missing(left, signal));
          const byTarget = Map.groupBy(others, (one) => targetIn(sink, one));
          let held = own;
          const kept = new Set(versions.values());
          for (const table of left.filter((one) => !missing.has(one))) {
            const other = byTarget.get(targetIn(sink, table))?.find((one) => !mayShare(sink, one, table));
            if (other !== undefined) {
              stays.push(`the rows of ${table.id} in sink ${config.name}: they are where those of ${other.id} are`);
              continue;
            }
            removes.push(`the rows of ${table.id} in sink ${config.name}`);
            if (isConfirmed) held = await removed(sink, table, held, signal);
            kept.delete(table);
          }
          // What the sink has removed is the next one's that comes for it.
          if (isConfirmed) await sink.presence?.keepOnly?.([...kept], signal);
        });
      }
    };
    const subject = { tables: tables.map(({ id }) => id) };
    const done = async () => {
      await each();
      return { removed: removes.length };
    };
    if (isConfirmed && tables.length > 0) await auditedHere(state, "teardown", subject, done);
    else await each();
    const keeps = ["slot, publication and state", "the rows of other tables", ...stays];
    return { applied: isConfirmed && removes.length > 0, nothingLeft: removes.length === 0, removes, keeps };
  };
  return await alone(place, work);
}

/** As a TRUNCATE at the sink's position would. */
async function removed(sink: Sink, table: TableVersion, held: Checkpoint, signal: AbortSignal): Promise<Checkpoint> {
  const { epoch, commit } = held.position;
  const { [table.id]: _, ...tables } = held.tables;
  const checkpoint = { ...held, tables };
  await sink.prepare([table], signal);
  await sink.apply({ kind: "truncate", table, version: rowVersion(epoch, commit), checkpoint }, NO_ROWS, signal);
  return checkpoint;
}

/** A truncate reports none. */
const NO_ROWS: Outcome = { incomplete: async () => {}, poison: async () => {} };
const ROWS_MS_MAX = 600_000;

type TornDown = ConfigPart & { readonly place: Place };

async function tearDown(
  session: Session,
  config: TornDown,
  state: StateStore,
  withSinks: boolean,
  isConfirmed: boolean,
): Promise<TeardownPlan> {
  const { signal } = new AbortController();
  const record = await state.source.get();
  return await whileOpen(config.source.connector.create(session.log), async ({ admin }) => {
    const plan = await planOf(config, admin, record, withSinks, signal);
    if (!isConfirmed) return { ...plan, applied: false, nothingLeft: false };
    // First: a sink may be away, and without its slot the daemon could not go on where it was.
    if (withSinks) await forgetInSinks(session, config.sinks, state, signal);
    if (record !== null) await admin.remove?.(record, signal);
    return { ...plan, applied: true, nothingLeft: false };
  });
}

/** `record` null: no start was announced, so nothing at the source belongs to Millrace. */
async function planOf(
  { name: daemon, place }: TornDown,
  admin: LogAdmin,
  record: SourceRecord | null,
  withSinks: boolean,
  signal: AbortSignal,
): Promise<Pick<TeardownPlan, "removes" | "keeps">> {
  const made = record === null ? [] : ((await admin.made?.(record, signal)) ?? []);
  const sinks = place.sinks.map(({ name }) => `what sink ${name} keeps for itself (progress)`);
  return {
    removes: [
      ...made.filter(({ isOurs }) => isOurs).map(({ what }) => what),
      ...(withSinks ? sinks : []),
      `the state of ${daemon}: positions, schema versions, dead letters`,
    ],
    keeps: [
      ...made.filter(({ isOurs }) => !isOurs).map(({ what }) => `${what}: Millrace did not make it`),
      ...(withSinks ? [] : sinks.map((what) => `${what}: --sink-metadata removes it`)),
      "the rows in the sinks",
    ],
  };
}

/** All sinks are open before the first one forgets. */
async function forgetInSinks(
  session: Session,
  [first, ...others]: readonly SinkConfig[],
  state: StateStore,
  signal: AbortSignal,
): Promise<void> {
  if (first === undefined) return;
  await withOpenSink(session, first, state, async (sink) => {
    await forgetInSinks(session, others, state, signal);
    await sink.forget(signal);
  });
}

function planText({ applied, nothingLeft, removes, keeps }: TeardownPlan): string {
  const stays = keeps.length === 0 ? [] : ["stays:", ...keeps.map((what) => `  ${what}`)];
  if (nothingLeft) return ["there is nothing to remove", ...stays].join("\n");
  return [
    applied ? "removed:" : "would be removed:",
    ...removes.map((what) => `  ${what}`),
    ...stays,
    ...(applied ? [] : [NOT_DONE]),
  ].join("\n");
}
