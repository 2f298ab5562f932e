/** A role that may log in and nothing more, and an administrator who runs what `check` prints for it. */
import { randomUUID } from "node:crypto";
import { Client } from "pg";
import type { Checked } from "./administer.ts";
import type { Installation } from "../daemon/daemon-process.ts";
import { type FreshDatabase, postgres } from "../run/services.ts";

export interface PlainRole extends AsyncDisposable {
  readonly name: string;
  /** The same database, as this role. */
  url(database: Pick<FreshDatabase, "url">): string;
}

/** Dropped at the end, which must come after the end of the databases in which it was given anything. */
export async function plainRole(label = "least", server: { readonly url: string } = postgres()): Promise<PlainRole> {
  const name = `${label}_${randomUUID().slice(0, 8)}`;
  const quoted = `"${name.replaceAll('"', '""')}"`;
  await asAdministrator(server, `create role ${quoted} login`);
  return {
    name,
    url(database) {
      const url = new URL(database.url);
      url.username = encodeURIComponent(name);
      return url.href;
    },
    [Symbol.asyncDispose]: () => asAdministrator(server, `drop role if exists ${quoted}`),
  };
}

async function asAdministrator({ url }: { readonly url: string }, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

export async function checked(installation: Installation): Promise<Checked> {
  const { stdout, stderr } = await installation.command("check", "--json");
  if (stdout === "") throw new Error(`check printed nothing: ${stderr}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the program's own output, in its documented shape
  return JSON.parse(stdout) as Checked;
}
