/**
 * Every built-in type of Postgres with its edge values behind a log in Kafka: what lands in each sink is what lands there
 * from the database itself.
 * @module-tag heavy
 */
import { test } from "vitest";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { roundTripThroughKafka } from "../../support/postgres/postgres-round-trip.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { SINK_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";

/** A type's form in a sink is that of the direct way; in the log all types have one form. */
const KINDS: readonly SinkKind[] = isLongForm() ? [...SINK_KINDS, "clickhouse"] : ["postgres", "redis"];

test("all types", async () => {
  await roundTripThroughKafka([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, KINDS);
});
