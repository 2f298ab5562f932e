/** The demo's daemons: one between the shop and all sinks; or one that captures into Kafka, and two that apply from there. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../services/processes/port.ts";
import type { SinkName } from "./options.ts";
import type { Servers } from "./servers.ts";
import { type DemoSink, sinksOf } from "./sinks.ts";

export interface Member {
  /** What it does. */
  readonly job: "mirrors" | "captures" | "applies";
  /** Holds millrace.yaml, the state, and a warehouse in a file. */
  readonly folder: string;
  readonly adminPort: number;
  readonly sinks: readonly DemoSink[];
}

interface Config {
  readonly name: string;
  /** Members of `source` but for its tables, as YAML. */
  readonly source: string;
  /** A sink that is not compared, as YAML. */
  readonly log?: string;
}

/** Which daemon applies to which sinks. */
const SHARES: readonly (readonly SinkName[])[] = [
  ["warehouse", "replica"],
  ["search", "cache"],
];

/** Each has its millrace.yaml. The one that captures comes first. */
export async function createCrew(
  servers: Servers,
  folder: string,
  without: readonly SinkName[],
): Promise<readonly Member[]> {
  const { source, kafka } = servers;
  const create = async (
    place: Omit<Member, "adminPort">,
    { name, source: from, log = "" }: Config,
  ): Promise<Member> => {
    mkdirSync(place.folder, { recursive: true });
    const adminPort = await freePort();
    const sinks = log + place.sinks.map((sink) => `  ${sink.name}:\n${sink.yaml}`).join("");
    const tables = `  tables: ["${source.schema}.*"]\n`;
    const text = `name: ${name}\n\nsource:\n${from}${tables}\nsinks:\n${sinks}\nadmin:\n  listen: 127.0.0.1:${adminPort}\n`;
    writeFileSync(join(place.folder, "millrace.yaml"), text);
    return { ...place, adminPort };
  };
  // On a shared server the slot's name must be unique, like the database.
  const name = new URL(source.url).pathname.slice(1);
  const database = `  kind: ${source.kind}\n  url: ${source.url}\n`;
  if (kafka === undefined) {
    const sinks = sinksOf(servers, folder, without);
    return [await create({ job: "mirrors", folder, sinks }, { name, source: database })];
  }
  const cluster = (indent: string): string =>
    `${indent}brokers: ["${kafka.broker}"]\n${indent}prefix: "${kafka.prefix}"\n`;
  const log = `  log:\n    kind: kafka\n    format: log\n${cluster("    ")}`;
  const captures = { job: "captures", folder: join(folder, name), sinks: [] } as const;
  const crew = [await create(captures, { name, source: database, log })];
  for (const [i, share] of SHARES.entries()) {
    const own = `${name}_apply${i + 1}`;
    const place = join(folder, own);
    const sinks = sinksOf(servers, place, without).filter((sink) => share.includes(sink.name));
    if (sinks.length === 0) continue;
    const behind = `  kind: kafka\n  from: ${name}\n${cluster("  ")}`;
    crew.push(await create({ job: "applies", folder: place, sinks }, { name: own, source: behind }));
  }
  return crew;
}
