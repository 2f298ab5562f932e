/**
 * Every built-in type of Postgres with its edge values, through the first copy, the stream and chunks, into every sink:
 * what lands is the value, or what the sink's type table says of it. The source's own output settings don't matter.
 */
import { test } from "vitest";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { roundTrip } from "../../support/postgres/postgres-round-trip.ts";
import { SINK_KINDS } from "../../support/daemon/sink-set.ts";

test("all types, carried as text where one of them has no other form", { tags: "long" }, async () => {
  await roundTrip([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, SINK_KINDS);
});

/** Types of which core reads the binary form: without any other the stream is binary. */
const OPAQUE =
  /^(interval|money|inet|cidr|mac|timetz|int4.*range|tstzrange|point|path|bit|varbit|ts|xml|pair|pg_lsn|"char"|jsonpath|oid)/;

test("types that are carried in binary", async () => {
  const binary = edgeValues.filter(([native]) => !OPAQUE.test(native));
  await roundTrip(binary, EDGE_TYPES, SINK_KINDS);
});
