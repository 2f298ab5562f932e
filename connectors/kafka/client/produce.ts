/** The request that carries batches of records: https://kafka.apache.org/protocol#The_Messages_Produce */
import { produceV10, produceV11, produceV9, Writer } from "@platformatic/kafka";
import type { SentBatch } from "./cluster.ts";
import { failureOf } from "./failures.ts";

export const PRODUCE = 0;
const PRODUCE_MS_MAX = 30_000;
const ALL_REPLICAS = -1;
const PARSERS = new Map([
  [9, produceV9.parseResponse],
  [10, produceV10.parseResponse],
  [11, produceV11.parseResponse],
]);

/** What reads the answer of this version. */
export function produceAnswer(version: number): typeof produceV11.parseResponse {
  const parse = PARSERS.get(version);
  if (parse === undefined) throw failureOf("UNSUPPORTED_VERSION", "Produce");
  return parse;
}

export function produceRequest(transactionalId: string, batches: readonly SentBatch[]): Writer {
  const byTopic = Map.groupBy(batches, ({ name }) => name);
  return Writer.create()
    .appendString(transactionalId)
    .appendInt16(ALL_REPLICAS)
    .appendInt32(PRODUCE_MS_MAX)
    .appendArray([...byTopic], (w, [name, ofTopic]) => {
      w.appendString(name).appendArray([...ofTopic], (inner, { partition, bytes }) => {
        inner
          .appendInt32(partition)
          .appendUnsignedVarInt(bytes.length + 1)
          .append(bytes);
      });
    })
    .appendTaggedFields();
}
