/** The peer of documents: pgsync, which keeps Elasticsearch by triggers, a slot and a queue in Redis. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { watchedUsage } from "./daemon.ts";
import { pythonFolder } from "../scripts/services/packages/python.ts";

const PGSYNC = { name: "pgsync", version: "7.3.0" } as const;
const LOG_BYTES_MAX = 4_000;

export interface PgsyncPlace {
  readonly folder: string;
  readonly postgresUrl: string;
  readonly redisUrl: string;
  readonly searchUrl: string;
}

export class Pgsync {
  readonly #place: PgsyncPlace;
  readonly #env: NodeJS.ProcessEnv;
  readonly #lib: string;
  /** The peak of resident memory, of all runs. */
  peakMiB = 0;
  /** Processor time of the last one. */
  cpuSeconds = 0;

  private constructor(place: PgsyncPlace, lib: string) {
    this.#place = place;
    this.#lib = lib;
    const postgres = new URL(place.postgresUrl);
    const redis = new URL(place.redisUrl);
    this.#env = {
      ...process.env,
      PYTHONPATH: lib,
      PG_HOST: postgres.hostname,
      PG_PORT: postgres.port,
      PG_USER: postgres.username,
      PG_PASSWORD: postgres.password,
      PG_DATABASE: postgres.pathname.slice(1),
      PG_SSLMODE: "disable",
      REDIS_HOST: redis.hostname,
      REDIS_PORT: redis.port,
      REDIS_AUTH: "",
      ELASTICSEARCH_URL: place.searchUrl,
      // Its client is of version 7.
      ELASTIC_CLIENT_APIVERSIONING: "1",
      LOG_LEVEL: "ERROR",
    };
  }

  static async open(place: PgsyncPlace, schema: object): Promise<Pgsync> {
    writeFileSync(join(place.folder, "schema.json"), JSON.stringify([schema]));
    return new Pgsync(place, await pythonFolder(PGSYNC));
  }

  /** Makes its triggers, its view and its slot. */
  async bootstrap(): Promise<void> {
    await this.#run("bootstrap");
  }

  /** Reads what there is, or what its slot has, and ends. Returns the seconds. */
  async sync(): Promise<number> {
    const startedMs = performance.now();
    await this.#run("pgsync");
    return (performance.now() - startedMs) / 1000;
  }

  async #run(program: string): Promise<void> {
    const args = [join(this.#lib, "bin", program), "--config", join(this.#place.folder, "schema.json")];
    const child = spawn("python3", args, {
      cwd: this.#place.folder,
      env: this.#env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-LOG_BYTES_MAX)));
    const watched = watchedUsage(child.pid ?? 0);
    const [code] = await once(child, "close");
    const { memoryMiB, cpuSeconds } = watched();
    this.peakMiB = Math.max(this.peakMiB, memoryMiB);
    this.cpuSeconds = cpuSeconds;
    if (code !== 0) throw new Error(`${program} ended with ${String(code)}: ${said}`);
  }
}
