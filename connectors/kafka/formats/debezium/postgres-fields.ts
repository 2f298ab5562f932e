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
  timestampField,
  uuidField,
  vectorField,
  zonedTimestampField,
  UNAVAILABLE_HSTORE,
} from "./fields.ts";

const MICROSECONDS = 6;
/** money.fraction.digits. */
const MONEY_SCALE = 2;
/** `bit varying` without a length. */
const BITS_MAX = 2_147_483_647;

export function postgresField({ type, native }: Pick<Column, "type" | "native">, decimals: Decimals): Field {
  const digits = numberIn(native) ?? MICROSECONDS;
  switch (type.kind) {
    case "bool":
      return field(type, { form: "plain", connect: "boolean" });
    case "int":
      return field(type, { form: "plain", connect: type.signed ? `int${type.bits}` : "int64" });
    case "float":
      return field(type, { form: "float", connect: type.bits === 32 ? "float" : "double" });
    case "decimal":
      return decimalField(type, { precision: type.precision, scale: type.scale, decimals });
    case "text":
      return field(type, { form: "text", connect: "string" });
    case "bytes":
      return field(type, { form: "plain", connect: "bytes" });
    case "date":
      return dateField(type);
    case "time":
      return digits <= 3
        ? field(type, { form: "time-ms", connect: "int32", name: "io.debezium.time.Time" })
        : field(type, { form: "time-us", connect: "int64", name: "io.debezium.time.MicroTime" });
    case "timestamp":
      return type.zone ? zonedTimestampField(type, digits) : timestampField(type, digits);
    case "uuid":
      return uuidField(type);
    case "json":
      return jsonField(type);
    case "enum":
      return enumField(type, type.labels);
    case "array":
      return arrayField(type, postgresField({ type: type.of, native: native.replace(/(\[\])+$/, "") }, decimals));
    case "vector":
      if (type.form === "sparse") return field(type, { form: "text", connect: "string" });
      return type.form === "single"
        ? vectorField(type, "double", "io.debezium.data.DoubleVector")
        : vectorField(type, "float", "io.debezium.data.FloatVector");
    case "opaque":
      return opaqueField(type, native, decimals);
    default:
      return type satisfies never;
  }
}

/** By its name without the schema that an extension lies in. Debezium leaves most of the others out; here they are strings. */
function opaqueField(type: ColumnType, native: string, decimals: Decimals): Field {
  const name = native.replace(/\(.*?\)/, "").replace(/^.*\./, "");
  const text = { form: "text", connect: "string" } as const;
  if (name.startsWith("interval")) {
    return field(type, { form: "duration", connect: "int64", name: "io.debezium.time.MicroDuration" });
  }
  switch (name) {
    case "time with time zone": {
      const zero = '"00:00:00Z"';
      return field(type, { form: "zoned-time", connect: "string", name: "io.debezium.time.ZonedTime", zero });
    }
    case "money":
      return moneyField(type, decimals);
    case "bit":
      return (numberIn(native) ?? 1) === 1
        ? field(type, { form: "bit", connect: "boolean" })
        : bitsField(type, "bits", numberIn(native)!);
    case "bit varying":
      return numberIn(native) === 1
        ? field(type, { form: "bit", connect: "boolean" })
        : bitsField(type, "bits", numberIn(native) ?? BITS_MAX);
    case "point":
      return pointField(type, "point");
    case "hstore":
      return { ...jsonField(type), form: "hstore", zero: '"{}"', unavailable: UNAVAILABLE_HSTORE };
    case "xml":
      return field(type, { ...text, name: "io.debezium.data.Xml" });
    case "ltree":
      return field(type, { ...text, name: "io.debezium.data.Ltree" });
    case "tsvector":
      return field(type, { ...text, name: "io.debezium.data.Tsvector" });
    default:
      return field(type, text);
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
