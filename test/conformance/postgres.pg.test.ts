import { afterAll } from "vitest";
import { checkTarget } from "../../connectors/postgres/sink/check.ts";
import { PostgresSink } from "../../connectors/postgres/sink/sink.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { type Kept, liveRows } from "../support/compare/live-rows.ts";
import { type TcpProxy, tcpProxy } from "../support/network/proxy.ts";
import type { FreshDatabase } from "../support/run/services.ts";
import { freshDatabase } from "../support/run/services.ts";
import { SAME_IN_EACH_FORM, sinkConformance, type SinkTarget } from "./sink.ts";
import { DEFAULT_FORM, type TargetForm } from "../../connectors/warehouse/own-columns.ts";

const SOFT: TargetForm = { deletes: "soft", mode: "mirror" };
const HISTORY: TargetForm = { deletes: "hard", mode: "history" };

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const strict = tableVersion({ table: "strict", columns: { id: "integer", n: "smallint" } });

for (const form of [DEFAULT_FORM, SOFT, HISTORY]) {
  sinkConformance({
    name: ["postgres", keptIn(form)].join(" ").trim(),
    form,
    transactional: true,
    // All forms of them are in `sqlite.test.ts`, which is fast: of the forms only what is written differs in Postgres.
    heavy: form === DEFAULT_FORM ? [] : SAME_IN_EACH_FORM,
    isHeld: form === DEFAULT_FORM,
    target: () => targetOf(form),
    // Without pgvector's extension.
    landed: ({ type }, text) => (type.kind === "vector" && type.form !== "sparse" ? `{${text.slice(1, -1)}}` : text),
    refusal: () => ({
      table: strict,
      good: (i) => [`${i}`, "7"],
      bad: (i) => [`${i}`, "70000"],
    }),
  });
}

type Cell = string | null;

function keptIn(form: TargetForm): Kept | undefined {
  if (form.mode === "history") return "history";
  return form.deletes === "soft" ? "soft" : undefined;
}

const nameOf = (table: TableVersion): string => `${quote(table.schema)}.${quote(table.table)}`;
const keyOf = (table: TableVersion): string[] => table.key.map((i) => quote(table.columns[i]!.name));
const textsOf = (table: TableVersion): string => table.columns.map(({ name }) => `${quote(name)}::text`).join(", ");

interface Place {
  readonly database: FreshDatabase;
  readonly proxy: TcpProxy;
}

/** Emptied between tests, which is faster than another database. */
const shared = new Map<TargetForm, Place>();

afterAll(async () => {
  for (const { database, proxy } of shared.values()) {
    await proxy[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  }
});

async function targetOf(form: TargetForm): Promise<SinkTarget> {
  const place = shared.get(form) ?? (await newPlace());
  shared.set(form, place);
  const target = targetIn(place, form);
  return { ...target, [Symbol.asyncDispose]: () => target.wipe() };
}

async function newPlace(): Promise<Place> {
  const database = await freshDatabase();
  return { database, proxy: await tcpProxy(database.url) };
}

function targetIn({ database, proxy }: Place, form: TargetForm): SinkTarget {
  const address = parsePostgresUrl(proxy.url(database.url));
  const optionsOf = (daemon: string) => {
    return { name: "replica", checkpointName: `${daemon}/replica`, address, schema: undefined };
  };
  return {
    makeSink: (other = form, daemon = "shop") => new PostgresSink({ ...optionsOf(daemon), form: other }),
    check: async (tables, daemon, signal) => await checkTarget({ ...optionsOf(daemon), form }, signal, tables),

    async readMarked(table) {
      const { rows } = await database.query<{
        version: string;
        us: string;
        deleted: boolean;
        cells: (string | null)[];
      }>(
        `select _millrace_version as version, (extract(epoch from _millrace_commit_time) * 1000000)::bigint as us,
           _millrace_deleted as deleted, array[${textsOf(table)}] as cells
         from ${nameOf(table)} order by ${keyOf(table).join(", ")}`,
      );
      return rows.map(({ version, us, deleted, cells }) => ({
        version: BigInt(version),
        commitTimeUs: BigInt(us),
        isDeleted: deleted,
        cells,
      }));
    },

    async readRows(table) {
      await database.query("set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'");
      const exists = await database.query(
        "select 1 from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = $1 and relname = $2",
        [table.schema, table.table],
      );
      if (exists.rows.length === 0) return [];
      // format() prints as the output function does.
      const cells = table.columns.map(
        ({ name }, i) => `case when ${quote(name)} is not null then format('%s', ${quote(name)}) end as "c${i}"`,
      );
      const { rows } = await database.query<Record<string, string | null>>(
        `select _millrace_version as version, ${cells.join(", ")} from ${liveRows(nameOf(table), keyOf(table), keptIn(form))}`,
      );
      return rows.map((row) => ({
        version: BigInt(row["version"] ?? -1),
        cells: table.columns.map((_, i) => row[`c${i}`] ?? null),
      }));
    },

    async readHistory(table) {
      const { rows } = await database.query<{
        version: string;
        at: string;
        op: string;
        unchanged: string[];
        cells: Cell[];
      }>(
        `select _millrace_version as version, _millrace_offset as at, _millrace_op as op,
           coalesce(_millrace_unchanged, '{}') as unchanged, array[${textsOf(table)}] as cells
         from ${nameOf(table)} order by 1, 2, ${keyOf(table).join(", ")}, _millrace_op desc`,
      );
      return rows.map(({ version, at, ...row }) => ({ ...row, version: BigInt(version), offset: Number(at) }));
    },

    async wipe() {
      const { rows } = await database.query<{ name: string }>(
        "select nspname as name from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'",
      );
      for (const { name } of rows) await database.query(`drop schema ${quote(name)} cascade`);
      await database.query("create schema public");
    },

    async occupy(table) {
      await database.query(`create table ${quote(table.schema)}.${quote(table.table)} (id int8 primary key)`);
    },

    async cut() {
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
      );
    },

    hold(work) {
      const held = proxy.hold(work === "write" ? "" : "DELETE FROM");
      // Behind a pooler another backend works for the session than the one that it has noted: nobody can end it.
      const unnoted = async (): Promise<void> => {
        await held.reached;
        if (work === "write") await database.query("update _millrace.progress set backend = 0");
      };
      return { ...held, reached: unnoted() };
    },

    async copy(table) {
      const schema = quote(table.schema);
      const name = `${schema}.${quote(table.table)}`;
      await database.query(`create table ${schema}.copy (like ${name} including all)`);
      await database.query(`insert into ${schema}.copy select * from ${name}`);
      return async () => {
        await database.query(`drop table ${name}; alter table ${schema}.copy rename to ${quote(table.table)}`);
      };
    },

    async obstruct(table) {
      const schema = quote(table.schema);
      await database.query(`alter table ${schema}.${quote(table.table)} rename to hidden`);
      return {
        async [Symbol.asyncDispose]() {
          await database.query(`alter table ${schema}.hidden rename to ${quote(table.table)}`);
        },
      };
    },

    [Symbol.asyncDispose]: async () => {},
  };
}
