/**
 * Postgres refuses logins of source, sink and state for a while, in every way that it has: all are told as what a person has to
 * put right, and go on by themselves afterwards.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { freshDatabase, needsPostgres, ownPostgres, type FreshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PASSWORD = "canary-of-a-role";
const ROLES = ["reader", "writer", "keeper"] as const;
type Role = (typeof ROLES)[number];

interface Refusal {
  readonly how: string;
  /** Run in the database itself. */
  readonly within?: true;
  readonly closed: (role: string, database: string) => string;
  readonly opened: (role: string, database: string) => string;
  readonly code: string;
}

const REFUSALS: readonly Refusal[] = [
  {
    how: "the password has expired",
    closed: (role) => `alter role ${role} valid until '2001-01-01'`,
    opened: (role) => `alter role ${role} valid until 'infinity'`,
    code: "MR2002",
  },
  {
    how: "the role may not connect to the database",
    closed: (role, database) => `revoke connect on database ${database} from public, ${role}`,
    opened: (role, database) => `grant connect on database ${database} to ${role}`,
    code: "MR2008",
  },
  {
    how: "the database is closed for maintenance",
    closed: (_, database) => `alter database ${database} allow_connections false`,
    opened: (_, database) => `alter database ${database} allow_connections true`,
    code: "MR2002",
  },
  {
    how: "a trigger at the login refuses it",
    within: true,
    closed: (role) =>
      `create function refuse() returns event_trigger language plpgsql as
         $$ begin if session_user = '${role}' then raise 'canary of a message'; end if; end $$;
       create event trigger refuse on login execute function refuse()`,
    opened: () => "drop event trigger refuse; drop function refuse()",
    code: "MR2002",
  },
  {
    how: "the database has as many connections as it may",
    closed: (_, database) => `alter database ${database} connection limit 0`,
    opened: (_, database) => `alter database ${database} connection limit -1`,
    code: "MR2006",
  },
];

test("every way to refuse a login is told at source, sink and state, and passes by itself", async (context) => {
  // Which knows triggers at logins.
  needsPostgres(17, context);
  await using server = await ownPostgres({
    auth: [`host all,replication ${ROLES.join(",")} 127.0.0.1/32 scram-sha-256`, "host all all 127.0.0.1/32 trust"],
  });
  await using admin = await freshDatabase(server);
  await using source = await freshDatabase(server);
  await using target = await freshDatabase(server);
  await using state = await freshDatabase(server);
  const databases = { reader: source.name, writer: target.name, keeper: state.name };
  const as = (text: string, name: string): string => {
    const url = new URL(text);
    url.username = name;
    url.password = PASSWORD;
    return url.href;
  };
  for (const role of ROLES) {
    await admin.query(`create role ${role} login replication password '${PASSWORD}'`);
    await admin.query(`alter database ${databases[role]} owner to ${role}`);
  }
  await run(source, "create table item (id int primary key)");
  await run(source, "alter table item owner to reader");
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: as(source.url, "reader"), heartbeat: "500ms" },
    state: as(state.url, "keeper"),
    sinks: { copy: { kind: "postgres", url: as(target.url, "writer") } },
  });
  const daemon = installation.run();
  await daemon.streaming();
  let id = 0;
  const arrived = async (): Promise<void> => {
    await run(source, `insert into item values (${++id})`);
    await eventually(async () => expect(await run(target, `select id from public.item where id = ${id}`)).toBe(1), {
      withinMs: 90_000,
    });
  };
  await arrived();
  const there = { reader: source, writer: target, keeper: state };
  for (const { how, within, closed, opened, code } of REFUSALS) {
    const act = async (role: Role, statement: Refusal["closed"]): Promise<void> =>
      void (await run(within === true ? there[role] : admin, statement(role, there[role].name)));
    const close = async (role: Role): Promise<void> => {
      await act(role, closed);
      await admin.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", [role]);
    };
    const told = async (of: (status: StatusDocument) => unknown, wanted: string): Promise<void> =>
      await eventually(async () =>
        expect({ how, error: of(await installation.status()) }).toMatchObject({
          error: { code: wanted },
        }),
      );
    await close("reader");
    await told(({ source: from }) => from.error ?? from.unanswered, code);
    // The sink has nothing to write, and is looked at although the source is away.
    await close("writer");
    await told(({ sinks }) => sinks[0]?.error, code);
    await act("reader", opened);
    await act("writer", opened);
    await arrived();
    await close("keeper");
    await told(({ state: at }) => at.error, code === "MR2006" ? "MR1215" : "MR1216");
    await act("keeper", opened);
    expect(daemon.exited, how).toBe(false);
    await arrived();
  }
  expect(daemon.said).not.toContain("canary");
});

/** On a connection of its own, so that none stays in the database. Answers the number of rows. */
async function run(database: FreshDatabase, sql: string): Promise<number> {
  await using client = await database.connect();
  return (await client.query(sql)).rowCount ?? 0;
}
