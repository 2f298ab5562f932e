/** Records of topics, read by Confluent's own client and deserialisers for Python. */
import { join } from "node:path";
import { python } from "../../../scripts/services/packages/python.ts";
import { toldFloat } from "./avro-records.ts";

const CLIENT = { name: "confluent-kafka", version: "2.16.1", extras: ["avro", "json"] };

export interface ConfluentRecord {
  readonly topic: string;
  readonly key: unknown;
  readonly value: unknown;
}

export interface WhatToRead {
  readonly broker: string;
  readonly registry: string;
  readonly encoding: "avro" | "json";
  readonly topics: readonly string[];
}

/** In the order of each partition; told as `RegistryReader` tells them. */
export async function readByConfluent({ broker, registry, encoding, topics }: WhatToRead): Promise<ConfluentRecord[]> {
  const program = join(import.meta.dirname, "confluent-records.py");
  const { exitCode, stdout, stderr } = await python(
    CLIENT,
    [program, broker, registry, encoding, ...topics],
    import.meta.dirname,
  );
  if (exitCode !== 0) throw new Error(`the client ended with ${exitCode}: ${stderr}`);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line): ConfluentRecord => JSON.parse(line, (_, value: unknown) => floatOf(value) ?? value));
}

function floatOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || !("float" in value)) return undefined;
  return typeof value.float === "string" ? toldFloat(Number(value.float)) : undefined;
}
