/** The demo's daemons: one between the shop and all sinks; or one that captures into Kafka, and two that apply from there. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../services/port.ts";
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
  // On a shared server the slot's name must be unique, like the database.
  const name = new URL(source.url).pathname.slice(1);
  const database = `  kind: ${source.kind}\n  url: ${source.url}\n`;
  const tables = `  tables: ["${source.schema}.*"]\n`;
  const member = async (job: Member["job"], own: string, from: string, log = ""): Promise<Member> => {
    const place = job === "mirrors" ? folder : join(folder, own);
    mkdirSync(place, { recursive: true });
    const adminPort = await freePort();
    const share = SHARES.findIndex((_, i) => own === nameOf(name, i));
    const all = sinksOf(servers, place, without);
    const sinks =
      job === "captures" ? [] : job === "mirrors" ? all : all.filter((sink) => SHARES[share]?.includes(sink.name));
    const yaml = log + sinks.map((sink) => `  ${sink.name}:\n${sink.yaml}`).join("");
    const text = `name: ${own}\n\nsource:\n${from}${tables}\nsinks:\n${yaml}\nadmin:\n  listen: 127.0.0.1:${adminPort}\n`;
    writeFileSync(join(place, "millrace.yaml"), text);
    return { job, folder: place, adminPort, sinks };
  };
  if (kafka === undefined) return [await member("mirrors", name, database)];
  const cluster = `    brokers: ["${kafka.broker}"]\n    prefix: "${kafka.prefix}"\n`;
  const log = `  log:\n    kind: kafka\n    format: log\n${cluster}`;
  const behind = `  kind: kafka\n  from: ${name}\n${cluster.replaceAll(/^ {2}/gm, "")}`;
  const crew = [await member("captures", name, database, log)];
  for (const i of SHARES.keys()) crew.push(await member("applies", nameOf(name, i), behind));
  return crew.filter(({ job, sinks }) => job === "captures" || sinks.length > 0);
}

function nameOf(name: string, share: number): string {
  return `${name}_apply${share + 1}`;
}
