/**
 * How Debezium shows a column: the Connect schema of its field, and the form of its values. From the column's type at the source
 * (`native`) where the canonical type says too little. The tables of types in Debezium's manual:
 * https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types and
 * https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-data-types
 */
import type { Column, DialectName } from "../../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import {
  arrayField,
  decimalField,
  type Decimals,
  type Field,
  field,
  structField,
  UNAVAILABLE_HSTORE,
  UNAVAILABLE_UUID,
  vectorField,
} from "./fields.ts";

type Shown = Pick<Column, "type" | "native">;
type Int = Extract<ColumnType, { readonly kind: "int" }>;

const TEXT = { form: "text", connect: "string" } as const;
const BYTES = { form: "plain", connect: "bytes" } as const;
const MICROSECONDS = 6;
/** money.fraction.digits. */
const MONEY_SCALE = 2;
/** `bit varying` without a length. */
const BITS_MAX = 2_147_483_647;

export function fieldOf({ type, native }: Shown, dialect: DialectName, decimals: Decimals): Field {
  const isMysql = dialect === "mysql";
  const digits = numberIn(native) ?? (isMysql ? 0 : MICROSECONDS);
  switch (type.kind) {
    case "bool":
      return field(type, { form: "plain", connect: "boolean" });
    case "int":
      return isMysql
        ? mysqlInt(type, native)
        : field(type, { form: "plain", connect: type.signed ? `int${type.bits}` : "int64" });
    case "float":
      return field(type, { form: "float", connect: type.bits === 32 ? "float" : "double" });
    case "decimal":
      return decimalField(type, {
        precision: type.precision,
        scale: isMysql ? (type.scale ?? 0) : type.scale,
        decimals,
      });
    case "text":
      return field(type, TEXT);
    case "bytes":
      return isMysql ? mysqlBytes(type, native) : field(type, BYTES);
    case "date":
      return field(type, { form: "date", connect: "int32", name: "io.debezium.time.Date" });
    case "time":
      if (isMysql) return mysqlOpaque(type, native);
      return digits <= 3
        ? field(type, { form: "time-ms", connect: "int32", name: "io.debezium.time.Time" })
        : field(type, { form: "time-us", connect: "int64", name: "io.debezium.time.MicroTime" });
    case "timestamp":
      return timestampField(type, digits);
    case "uuid":
      return field(type, { ...TEXT, name: "io.debezium.data.Uuid", unavailable: `"${UNAVAILABLE_UUID}"` });
    case "json":
      return jsonField(type);
    case "enum":
      return enumField(type, type.labels);
    case "array": {
      const of = isMysql ? "" : native.replace(/(\[\])+$/, "");
      return arrayField(type, fieldOf({ type: type.of, native: of }, dialect, decimals));
    }
    case "vector":
      if (isMysql || type.form === "half") return vectorField(type, "float", "io.debezium.data.FloatVector");
      if (type.form === "sparse") return field(type, TEXT);
      return vectorField(type, "double", "io.debezium.data.DoubleVector");
    case "opaque":
      return isMysql ? mysqlOpaque(type, native) : postgresOpaque(type, native, decimals);
    default:
      return type satisfies never;
  }
}

/** A bigint above 2^63 wraps, as with Debezium's bigint.unsigned.handling.mode=long, its default. */
function mysqlInt(type: Int, native: string): Field {
  if (native === "year") return field(type, { form: "plain", connect: "int32", name: "io.debezium.time.Year" });
  if (native.startsWith("bit(")) return bitsField(type, "little-endian", numberIn(native)!);
  const { bits, signed } = type;
  if (bits === 64) return field(type, { form: signed ? "plain" : "unsigned-long", connect: "int64" });
  if (bits === 32) return field(type, { form: "plain", connect: signed ? "int32" : "int64" });
  return field(type, { form: "plain", connect: bits === 24 || (bits === 16 && !signed) ? "int32" : "int16" });
}

const GEOMETRY =
  /^(geometry|linestring|polygon|multipoint|multilinestring|multipolygon|geometrycollection|geomcollection)$/;

function mysqlBytes(type: ColumnType, native: string): Field {
  if (native === "point") return pointField(type, "geometry-point");
  if (!GEOMETRY.test(native)) return field(type, BYTES);
  return structField(type, {
    form: "geometry",
    fields: '{"type":"bytes","optional":false,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}',
    name: "io.debezium.data.geometry.Geometry",
    doc: "Geometry",
  });
}

function mysqlOpaque(type: ColumnType, native: string): Field {
  if (native.startsWith("time"))
    return field(type, { form: "time-of-mysql", connect: "int64", name: "io.debezium.time.MicroTime" });
  if (!native.startsWith("set(")) return field(type, TEXT);
  const labels = Array.from(native.matchAll(/'((?:[^']|'')*)'/g), ([, label = ""]) => label.replaceAll("''", "'"));
  return enumField(type, labels, "io.debezium.data.EnumSet");
}

/** By its name without the schema that an extension lies in. Debezium leaves most of the others out; here they are strings. */
function postgresOpaque(type: ColumnType, native: string, decimals: Decimals): Field {
  const name = native.replace(/\(.*?\)/, "").replace(/^.*\./, "");
  const bits = numberIn(native) ?? (name === "bit" ? 1 : BITS_MAX);
  if (name.startsWith("interval"))
    return field(type, { form: "duration", connect: "int64", name: "io.debezium.time.MicroDuration" });
  switch (name) {
    case "time with time zone": {
      const zero = '"00:00:00Z"';
      return field(type, { form: "zoned-time", connect: "string", name: "io.debezium.time.ZonedTime", zero });
    }
    case "money":
      return moneyField(type, decimals);
    case "bit":
    case "bit varying":
      return bits === 1 ? field(type, { form: "bit", connect: "boolean" }) : bitsField(type, "bits", bits);
    case "point":
      return pointField(type, "point");
    case "hstore":
      return { ...jsonField(type), form: "hstore", zero: '"{}"', unavailable: UNAVAILABLE_HSTORE };
    case "xml":
      return field(type, { ...TEXT, name: "io.debezium.data.Xml" });
    case "ltree":
      return field(type, { ...TEXT, name: "io.debezium.data.Ltree" });
    case "tsvector":
      return field(type, { ...TEXT, name: "io.debezium.data.Tsvector" });
    default:
      return field(type, TEXT);
  }
}

function moneyField(type: ColumnType, decimals: Decimals): Field {
  switch (decimals) {
    case "double":
      return field(type, { form: "money-double", connect: "double" });
    case "string":
      return field(type, { form: "money-text", connect: "string", zero: '"0.00"' });
    case "precise":
      return { ...decimalField(type, { precision: null, scale: MONEY_SCALE, decimals }), form: "money" };
    default:
      return decimals satisfies never;
  }
}

function enumField(type: ColumnType, labels: readonly string[], name = "io.debezium.data.Enum"): Field {
  return field(type, { ...TEXT, name, parameters: { allowed: labels.join(",") } });
}

function timestampField(type: Extract<ColumnType, { readonly kind: "timestamp" }>, digits: number): Field {
  const zero = '"1970-01-01T00:00:00Z"';
  if (type.zone)
    return field(type, { ...TEXT, form: "zoned-timestamp", digits, name: "io.debezium.time.ZonedTimestamp", zero });
  return digits <= 3
    ? field(type, { form: "timestamp-ms", connect: "int64", name: "io.debezium.time.Timestamp" })
    : field(type, { form: "timestamp-us", connect: "int64", name: "io.debezium.time.MicroTimestamp" });
}

function jsonField(type: ColumnType): Field {
  return field(type, { ...TEXT, name: "io.debezium.data.Json" });
}

function bitsField(type: ColumnType, form: "bits" | "little-endian", digits: number): Field {
  const parameters = { length: String(digits) };
  return field(type, { form, digits, connect: "bytes", name: "io.debezium.data.Bits", parameters });
}

const WKB = '{"type":"bytes","optional":true,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}';

function pointField(type: ColumnType, form: "point" | "geometry-point"): Field {
  return structField(type, {
    form,
    fields: `{"type":"double","optional":false,"field":"x"},{"type":"double","optional":false,"field":"y"},${WKB}`,
    name: "io.debezium.data.geometry.Point",
    doc: "Geometry (POINT)",
    zero: '{"x":0.0,"y":0.0,"wkb":"AQEAAAAAAAAAAAAAAAAAAAAAAAAA","srid":null}',
  });
}

/** The number in a type's parentheses. */
function numberIn(native: string): number | null {
  const found = /\((\d+)/.exec(native)?.[1];
  return found === undefined ? null : Number(found);
}
