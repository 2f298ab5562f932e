/**
 * With MILLRACE_TEST_ROLE=least daemons under test come to their Postgres servers as roles that may log in and have
 * nothing but what `check` prints: an administrator runs that before each start, and again while tests go on.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { parse } from "yaml";
import { connectors } from "../../../connectors/registry.ts";
import { findingsOf } from "../../../src/cli/check/check.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { Secrets } from "../../../src/config/secrets/secrets.ts";
import { administer } from "./administer.ts";

const PREFIX = "least_";
/** Whoever puts a role's grants right at one time: two at once would do the same work twice, and fail. */
const LOCK = 730832094;
const ROUND_EVERY_MS = 600;

export const isLeastMode = process.env["MILLRACE_TEST_ROLE"] === "least";

interface Part {
  readonly kind?: unknown;
  readonly url?: unknown;
}

/**
 * The same configuration, in which every Postgres that trusts its superuser is entered by a role of its own: one for the
 * source, one for each database that sinks write to.
 */
export function withPlainRoles<
  Given extends { readonly name: string; readonly source?: object; readonly sinks?: object },
>(config: Given): Given {
  const changed = (label: "source" | "sink", part: Part): Part => {
    if (part.kind !== "postgres" || typeof part.url !== "string" || !URL.canParse(part.url)) return part;
    const url = new URL(part.url);
    if (url.username !== "postgres" || url.password !== "") return part;
    const digest = createHash("sha256").update(`${config.name}/${label}${url.pathname}`).digest("hex");
    url.username = `${PREFIX}${label}_${digest.slice(0, 12)}`;
    return { ...part, url: url.href };
  };
  const sinks = Object.entries(config.sinks ?? {}).map(
    ([name, sink]: [string, Part]) => [name, changed("sink", sink)] as const,
  );
  return {
    ...config,
    ...(config.source === undefined ? {} : { source: changed("source", config.source) }),
    ...(config.sinks === undefined ? {} : { sinks: Object.fromEntries<Part>(sinks) }),
  };
}

/** Makes the roles of the configuration in `folder` where they are missing, and gives them what `check` prints. */
export async function putRight(folder: string): Promise<void> {
  const file = join(folder, "millrace.yaml");
  const entrances = entrancesOf(readFileSync(file, "utf8"));
  if (entrances.size === 0) return;
  const config = await loadConfig(file, { connectors, environment: process.env, secrets: new Secrets() });
  const clients = new Map<string, Client>();
  try {
    const databases: Record<string, Client> = {};
    for (const [part, { url, role }] of entrances) {
      databases[part] = clients.get(url) ?? (await asAdministrator(url, role, clients));
    }
    // The others are not an administrator's, and may be open in the daemon.
    const looked = { ...config, sinks: config.sinks.filter(({ name }) => entrances.has(name)) };
    await administer(await findingsOf(looked), databases);
  } finally {
    await Promise.all(Array.from(clients.values(), (client) => client.end().catch(() => undefined)));
  }
}

/** Makes the role where it is missing. The session is in `clients` as soon as there is something to end. */
async function asAdministrator(url: string, role: string, clients: Map<string, Client>): Promise<Client> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 3_000 });
  client.on("error", () => {});
  clients.set(url, client);
  await client.connect();
  // Whatever the database has for its users.
  await client.query("set default_transaction_read_only = off; set statement_timeout = '10s'");
  await client.query(`select pg_advisory_lock(${LOCK}, hashtext($1))`, [role]);
  const { rowCount } = await client.query("select from pg_roles where rolname = $1", [role]);
  if (rowCount === 0) await client.query(`create role ${role} login`);
  return client;
}

interface Entrance {
  readonly role: string;
  /** As the superuser. */
  readonly url: string;
}

function entrancesOf(text: string): ReadonlyMap<string, Entrance> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own file, as it was written by the test
  const { source = {}, sinks = {} } = parse(text) as { source?: Part; sinks?: Record<string, Part> };
  const parts = Object.entries({ source, ...sinks });
  return new Map(
    parts.flatMap(([name, { url: text }]) => {
      const url = typeof text === "string" ? URL.parse(text) : null;
      if (url === null || !url.username.startsWith(PREFIX)) return [];
      const role = url.username;
      url.username = "postgres";
      return [[name, { role, url: url.href }] as const];
    }),
  );
}

/** An administrator who looks again and again, as tables come and schemas go; what fails is tried again. */
export class Administrator implements AsyncDisposable {
  readonly #folder: string;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  begin(): void {
    this.#running ??= this.#run();
  }

  /** Now, at most: a server that can't be reached is part of some tests. */
  async look(): Promise<void> {
    await putRight(this.#folder).catch(() => undefined);
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.look();
      await delay(ROUND_EVERY_MS, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
