import type { Column } from "../../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import {
  arrayField,
  bitsField,
  dateField,
  type Decimals,
  decimalField,
  enumField,
  type Field,
  field,
  jsonField,
  numberIn,
  pointField,
  structField,
  timestampField,
  uuidField,
  vectorField,
  zonedTimestampField,
} from "./fields.ts";

/** MySQL and MariaDB. A bigint above 2^63 wraps, as with Debezium's bigint.unsigned.handling.mode=long, its default. */
export function mysqlField({ type, native }: Pick<Column, "type" | "native">, decimals: Decimals): Field {
  const digits = numberIn(native) ?? 0;
  switch (type.kind) {
    case "bool":
      return field(type, { form: "plain", connect: "boolean" });
    case "int":
      return intField(type, native);
    case "float":
      return field(type, { form: "float", connect: type.bits === 32 ? "float" : "double" });
    case "decimal":
      return decimalField(type, { precision: type.precision, scale: type.scale ?? 0, decimals });
    case "text":
      return field(type, { form: "text", connect: "string" });
    case "bytes":
      return bytesField(type, native);
    case "date":
      return dateField(type);
    case "time":
    case "opaque":
      return opaqueField(type, native);
    case "timestamp":
      return type.zone ? zonedTimestampField(type, digits) : timestampField(type, digits);
    case "uuid":
      return uuidField(type);
    case "json":
      return jsonField(type);
    case "enum":
      return enumField(type, type.labels);
    case "vector":
      return vectorField(type, "float", "io.debezium.data.FloatVector");
    case "array":
      return arrayField(type, mysqlField({ type: type.of, native: "" }, decimals));
    default:
      return type satisfies never;
  }
}

function intField(type: Extract<ColumnType, { kind: "int" }>, native: string): Field {
  if (native === "year") return field(type, { form: "plain", connect: "int32", name: "io.debezium.time.Year" });
  if (native.startsWith("bit(")) return bitsField(type, "little-endian", numberIn(native)!);
  const { bits, signed } = type;
  if (bits === 64) return field(type, { form: signed ? "plain" : "unsigned-long", connect: "int64" });
  if (bits === 32) return field(type, { form: "plain", connect: signed ? "int32" : "int64" });
  return field(type, { form: "plain", connect: bits === 24 || (bits === 16 && !signed) ? "int32" : "int16" });
}

const GEOMETRY =
  /^(geometry|linestring|polygon|multipoint|multilinestring|multipolygon|geometrycollection|geomcollection)$/;

function bytesField(type: ColumnType, native: string): Field {
  if (native === "point") return pointField(type, "geometry-point");
  if (!GEOMETRY.test(native)) return field(type, { form: "plain", connect: "bytes" });
  return structField(type, {
    form: "geometry",
    fields: '{"type":"bytes","optional":false,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}',
    name: "io.debezium.data.geometry.Geometry",
    doc: "Geometry",
  });
}

function opaqueField(type: ColumnType, native: string): Field {
  if (native.startsWith("time")) {
    return field(type, { form: "time-of-mysql", connect: "int64", name: "io.debezium.time.MicroTime" });
  }
  if (!native.startsWith("set(")) return field(type, { form: "text", connect: "string" });
  const labels = Array.from(native.matchAll(/'((?:[^']|'')*)'/g), ([, label = ""]) => label.replaceAll("''", "'"));
  return enumField(type, labels, "io.debezium.data.EnumSet");
}
