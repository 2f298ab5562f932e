/** The records of Debezium's topic of transactions. */
import { namesOfTable } from "../../../../src/core/model/schema.ts";
import type { Begun, EndedTransaction, EndRecord } from "../format.ts";
import { parseConnectSchema, type RecordSchemas } from "../registered/schemas.ts";

const KEY_SCHEMA =
  '{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,' +
  '"name":"io.debezium.connector.common.TransactionMetadataKey","version":1}';
const COLLECTIONS =
  '{"type":"array","items":{"type":"struct","fields":[{"type":"string","optional":false,"field":"data_collection"},' +
  '{"type":"int64","optional":false,"field":"event_count"}],"optional":true,"name":"event.collection","version":1},' +
  '"optional":true,"field":"data_collections"}';
const VALUE_SCHEMA =
  '{"type":"struct","fields":[{"type":"string","optional":false,"field":"status"},' +
  '{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":true,"field":"event_count"},' +
  `${COLLECTIONS},{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,` +
  '"name":"io.debezium.connector.common.TransactionMetadataValue","version":1}';

export const TRANSACTION_SCHEMAS: RecordSchemas = {
  key: parseConnectSchema(KEY_SCHEMA),
  value: parseConnectSchema(VALUE_SCHEMA),
};

/** A field of records. */
export const TRANSACTION_SCHEMA =
  '{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},' +
  '{"type":"int64","optional":false,"field":"total_order"},' +
  '{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block","version":1,' +
  '"field":"transaction"}';

export function beginRecord({ id, timeMs }: Begun, hasSchemas: boolean): EndRecord {
  const value = { status: "BEGIN", id, event_count: null, data_collections: null, ts_ms: timeMs };
  return recordOf(id, value, hasSchemas);
}

export function endRecord({ id, timeMs, counts }: EndedTransaction, hasSchemas: boolean): EndRecord {
  const collections = [...counts].map(([table, count]) => {
    const { schema, table: name } = namesOfTable(table);
    return { data_collection: `${schema}.${name}`, event_count: count };
  });
  const total = collections.reduce((sum, { event_count: count }) => sum + count, 0);
  const value = { status: "END", id, event_count: total, data_collections: collections, ts_ms: timeMs };
  return recordOf(id, value, hasSchemas);
}

function recordOf(id: string, value: object, hasSchemas: boolean): EndRecord {
  return {
    key: withSchema(KEY_SCHEMA, { id }, hasSchemas),
    value: withSchema(VALUE_SCHEMA, value, hasSchemas),
  };
}

function withSchema(schema: string, payload: object, hasSchemas: boolean): Buffer {
  const text = JSON.stringify(payload);
  return Buffer.from(hasSchemas ? `{"schema":${schema},"payload":${text}}` : text);
}
