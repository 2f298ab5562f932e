/** Every type of MySQL and MariaDB with the values at its edges, and what the server itself says that they are. */
import type { MysqlFlavour } from "../run/services.ts";

export interface EdgeType {
  readonly native: string;
  /** SQL literals. */
  readonly values: readonly string[];
  /** The value's canonical text as SQL; default: as the server prints it. */
  readonly oracle?: (column: string) => string;
  /** From the oracle's text to the canonical one. */
  readonly canonical?: (text: string) => string | null;
  /** As the log's metadata names the type, where that is not as it was declared. */
  readonly shown?: string;
  /** Default: both. */
  readonly only?: MysqlFlavour;
  /** The version that had it first; default: every one that is tested. */
  readonly since?: string;
}

const hex = (column: string): string => `concat('\\\\x', lower(hex(${column})))`;
const wide = (column: string): string => `convert(${column} using utf8mb4)`;
const asNumber = (column: string): string => `${column} + 0`;

/** Fractions lose their zeros, and what is no date is null. */
function calendar(suffix: string): (text: string) => string | null {
  return (text) => {
    const [year = "", month = "", day = ""] = text.slice(0, 10).split("-");
    if (Number(month) === 0 || Number(day) === 0 || !isDay(Number(year), Number(month), Number(day))) return null;
    return `${text.replace(/\.?0+$/, (zeros) => (text.includes(".") ? "" : zeros))}${suffix}`;
  };
}

function isDay(year: number, month: number, day: number): boolean {
  const date = new Date(Date.UTC(2000, month - 1, day));
  date.setUTCFullYear(year, month - 1, day);
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

const float32 = (text: string): string => floatText(Math.fround(Number(text)), true);
const float64 = (text: string): string => floatText(Number(text), false);

/** As Postgres prints it: the shortest digits; a sign and two digits of exponent. */
function floatText(value: number, isSingle: boolean): string {
  let shortest = String(value);
  if (isSingle) {
    for (let digits = 1; digits <= 9; digits++) {
      shortest = String(Number(value.toPrecision(digits)));
      if (Math.fround(Number(shortest)) === value) break;
    }
  }
  const [mantissa = "", exponent = ""] = Number(shortest).toExponential().split("e");
  const power = Number(exponent);
  const isPlain = power >= -4 && power < (isSingle ? 6 : 15);
  if (value === 0) return Object.is(value, -0) ? "-0" : "0";
  if (!isPlain) return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  const negative = mantissa.startsWith("-") ? "-" : "";
  const digits = mantissa.replace(/[-.]/g, "");
  if (power < 0) return `${negative}0.${"0".repeat(-power - 1)}${digits}`;
  const whole = digits.slice(0, power + 1).padEnd(power + 1, "0");
  const fraction = digits.slice(power + 1);
  return `${negative}${whole}${fraction === "" ? "" : `.${fraction}`}`;
}

const DATES = [
  "'0000-00-00'",
  "'1000-01-01'",
  "'9999-12-31'",
  "'2024-02-29'",
  "'2023-02-31'",
  "'2024-00-10'",
  "'1999-12-00'",
  "'0001-01-01'",
  "'1970-01-01'",
  "'2000-03-01'",
];
const CLOCKS = ["00:00:00", "23:59:59", "12:34:56"];
const instants = (fraction: string): string[] =>
  DATES.flatMap((date) => CLOCKS.map((clock) => `'${date.slice(1, -1)} ${clock}${fraction}'`));
const TIMES = [
  "'00:00:00'",
  "'838:59:59'",
  "'-838:59:59'",
  "'-00:00:01'",
  "'01:02:03.4'",
  "'-01:02:03.456789'",
  "'99:59:59.999999'",
  "'-100:00:00.000001'",
  "'23:59:59.5'",
];
const LATIN = ["''", "'abc'", "'naïve café'", "'  spaces  '", "'quote \\' \\\\ slash'", "'tab\\tline\\n'"];
const WIDE = [...LATIN, "'日本語'", "'€ and ÿ'"];

const unsigned = (native: string, max: string): EdgeType => ({
  native: `${native} unsigned`,
  values: ["0", "1", max, "127", "128"],
});
const signed = (native: string, min: string, max: string): EdgeType => ({ native, values: ["0", "-1", "1", min, max] });

export const EDGE_TYPES: readonly EdgeType[] = [
  signed("tinyint", "-128", "127"),
  unsigned("tinyint", "255"),
  signed("smallint", "-32768", "32767"),
  unsigned("smallint", "65535"),
  signed("mediumint", "-8388608", "8388607"),
  unsigned("mediumint", "16777215"),
  signed("int", "-2147483648", "2147483647"),
  unsigned("int", "4294967295"),
  signed("bigint", "-9223372036854775808", "9223372036854775807"),
  {
    native: "bigint unsigned",
    values: [
      "0",
      "18446744073709551615",
      "9007199254740991",
      "9007199254740993",
      "9223372036854775808",
      "10000000000000000000",
      "1000000000000000000",
      "4294967296",
    ],
  },
  {
    native: "float",
    values: [
      "0",
      "-0.0e0",
      "0.1",
      "-3.4028234e38",
      "1.17549435e-38",
      "16777217",
      "1e-45",
      "123456",
      "1234567",
      "0.0001",
      "0.00001",
    ],
    oracle: (c) => `cast(${c} as double)`,
    canonical: float32,
  },
  {
    native: "double",
    values: [
      "0",
      "-0.0e0",
      "0.1",
      "1.7976931348623157e308",
      "5e-324",
      "2.2250738585072014e-308",
      "123456789012345678",
      "1e15",
      "1e14",
      "0.0001",
      "0.00001",
      "-1.5",
    ],
    canonical: float64,
  },
  {
    native: "decimal(65,30)",
    values: [
      "0",
      "-0.000000000000000000000000000001",
      `${"9".repeat(35)}.${"9".repeat(30)}`,
      `-${"9".repeat(35)}.${"9".repeat(30)}`,
      "1",
      "100000000000000000000000000000",
      "0.1",
      "10000.0001",
    ],
  },
  { native: "decimal(65,0)", values: ["0", "9".repeat(65), `-${"9".repeat(65)}`, `1${"0".repeat(64)}`] },
  { native: "decimal(30,30)", values: ["0", `0.${"9".repeat(30)}`, `-0.${"0".repeat(29)}1`] },
  { native: "decimal(12,2)", values: ["0", "0.01", "-0.01", "9999999999.99", "-1234.50", "10000", "100000000"] },
  { native: "decimal(9,0)", values: ["0", "999999999", "-1"] },
  { native: "decimal(1,1)", values: ["0", "0.9", "-0.1"] },
  { native: "decimal(10,9) unsigned", values: ["0", "9.999999999", "0.000000001"] },
  { native: "year", values: ["0", "1901", "2155", "2024"], canonical: (text) => String(Number(text)) },
  { native: "date", values: DATES, canonical: calendar("") },
  ...[0, 1, 2, 3, 4, 5, 6].flatMap((digits): EdgeType[] => {
    const suffix = digits === 0 ? "" : `(${digits})`;
    const fraction = digits === 0 ? "" : `.${"9070507".slice(0, digits)}`;
    return [
      { native: `datetime${suffix}`, values: instants(fraction), canonical: calendar("") },
      {
        native: `timestamp${suffix}`,
        values: [
          "'0000-00-00 00:00:00'",
          `'1970-01-01 00:00:01${fraction}'`,
          `'2038-01-19 03:14:07${fraction}'`,
          `'2024-02-29 12:34:56${fraction}'`,
          "'2001-09-09 01:46:40'",
        ],
        canonical: calendar("+00"),
      },
      { native: `time${suffix}`, values: TIMES },
    ];
  }),
  { native: "bit(1)", values: ["b'0'", "b'1'"], oracle: asNumber, canonical: (text) => (text === "1" ? "t" : "f") },
  ...[2, 8, 9, 17, 24, 25, 32, 33, 63, 64].map((bits): EdgeType => ({
    native: `bit(${bits})`,
    values: ["b'0'", "b'1'", "b'10'", `b'${"1".repeat(bits)}'`, `b'1${"0".repeat(bits - 1)}'`],
    oracle: asNumber,
  })),
  { native: "char(0)", values: ["''"] },
  { native: "char(10)", values: LATIN.filter((value) => value.length < 13) },
  { native: "char(255)", values: WIDE },
  { native: "varchar(20)", values: WIDE },
  { native: "varchar(400)", values: [...WIDE, "repeat('ä', 400)"] },
  ...["tinytext", "text", "mediumtext", "longtext"].map((native): EdgeType => ({ native, values: WIDE })),
  { native: "longtext", values: ["repeat('größer ', 20000)", "''"] },
  { native: "binary(8)", values: ["''", "x'00'", "x'0100'", "x'ffffffffffffffff'", "x'2020'"], oracle: hex },
  { native: "binary(255)", values: ["''", "repeat(x'ff', 255)"], oracle: hex },
  { native: "varbinary(300)", values: ["''", "x'00'", "x'0100'", "repeat(x'ff', 300)"], oracle: hex },
  ...["tinyblob", "blob", "mediumblob", "longblob"].map((native): EdgeType => ({
    native,
    values: ["''", "x'00ff5c27'", "repeat(x'ab', 255)"],
    oracle: hex,
  })),
  { native: "longblob", values: ["repeat(x'0123456789', 40000)"], oracle: hex },
  { native: "enum('a','b,c','it''s','','ä')", values: ["'a'", "'b,c'", "'it\\'s'", "''", "'ä'", "'no label'", "2"] },
  { native: "set('a','b c','it''s','ä')", values: ["''", "'a'", "'a,ä'", "'a,b c,it\\'s,ä'", "'no label'"] },
  {
    native: `set(${Array.from({ length: 64 }, (_, i) => `'v${i}'`).join(",")})`,
    values: ["'v0,v63'", "18446744073709551615", "''"],
  },
  {
    native: `enum(${Array.from({ length: 300 }, (_, i) => `'v${i}'`).join(",")})`,
    values: ["'v0'", "'v254'", "'v255'", "'v299'"],
  },
  ...[
    "latin1",
    "ascii",
    "cp1252",
    "sjis",
    "cp932",
    "ujis",
    "eucjpms",
    "gbk",
    "gb2312",
    "big5",
    "euckr",
    "koi8r",
    "utf16",
    "utf16le",
    "utf32",
    "ucs2",
    "utf8mb3",
  ]
    .filter((charset) => charset !== "cp1252")
    .flatMap((charset): EdgeType[] => [
      { native: `varchar(30) character set ${charset}`, values: WIDE, oracle: wide, shown: "varchar(30)" },
      { native: `char(30) character set ${charset}`, values: WIDE, oracle: wide, shown: "char(30)" },
      { native: `text character set ${charset}`, values: WIDE, oracle: wide, shown: "text" },
    ]),
  { native: "enum('é','日') character set sjis", values: ["'日'", "1"], oracle: wide, shown: "enum('?','日')" },
  { native: "enum('é','b') character set latin1", values: ["'é'", "'b'"], oracle: wide, shown: "enum('é','b')" },
  ...geometries(),
  { native: "json", values: jsonValues(), shown: "json", only: "mysql" },
  { native: "json", values: jsonValues(), shown: "longtext", only: "mariadb" },
  {
    native: "vector(3)",
    values: ["string_to_vector('[1,-2.5,3.5e9]')", "string_to_vector('[0,0.1,1e-30]')"],
    // Printed with six digits only.
    oracle: (c) => `hex(${c})`,
    canonical: (text) => {
      const bytes = Buffer.from(text, "hex");
      const floats = Array.from({ length: bytes.length / 4 }, (_, i) => floatText(bytes.readFloatLE(i * 4), true));
      return `[${floats.join(",")}]`;
    },
    only: "mysql",
    since: "9.0",
  },
  {
    native: "uuid",
    values: ["'123e4567-e89b-12d3-a456-426655440000'"],
    oracle: hexOfCast,
    shown: "binary(16)",
    only: "mariadb",
    since: "10.7",
  },
  {
    native: "inet6",
    values: ["'2001:db8::ff00:42:8329'"],
    oracle: (c) => hex(`cast(${c} as binary(16))`),
    shown: "binary(16)",
    only: "mariadb",
  },
  { native: "varchar(300) compressed", values: [...WIDE, "repeat('ab', 150)"], only: "mariadb" },
  { native: "blob compressed", values: ["''", "x'00ff'", "repeat(x'00ff', 5000)"], oracle: hex, only: "mariadb" },
  { native: "text compressed", values: ["''", "repeat('größer ', 500)"], only: "mariadb" },
];

function hexOfCast(column: string): string {
  return hex(`cast(${column} as binary(16))`);
}

function jsonValues(): string[] {
  return ["'{}'", "'[]'", "'null'", "'1.5'", `'{"b": 1, "a": [true, false, null, "x\\\\n"], "größe": {"x": 1e100}}'`];
}

/** EWKB put together from what the server's functions say. */
function geometries(): EdgeType[] {
  const shapes = [
    "st_geomfromtext('point(1 2)')",
    "st_geomfromtext('linestring(0 0,1 1,2 -2)')",
    "st_geomfromtext('polygon((0 0,10 0,10 10,0 0),(1 1,2 1,2 2,1 1))')",
    "st_geomfromtext('geometrycollection(point(1 1),multipoint((2 2),(3 3)))')",
    "st_geomfromtext('multipolygon(((0 0,1 0,1 1,0 0)))')",
  ];
  const wkb = (column: string): string => `concat(st_srid(${column}), ' ', hex(st_aswkb(${column})))`;
  const canonical = (text: string): string => {
    const [srid = "", bytes = ""] = text.split(" ");
    const plain = Buffer.from(bytes, "hex");
    if (srid === "0") return `\\x${plain.toString("hex")}`;
    const head = Buffer.alloc(9, plain.subarray(0, 5));
    head.writeUInt32LE((plain.readUInt32LE(1) | 0x2000_0000) >>> 0, 1);
    head.writeUInt32LE(Number(srid), 5);
    return `\\x${Buffer.concat([head, plain.subarray(5)]).toString("hex")}`;
  };
  return [
    { native: "geometry", values: [...shapes, "st_geomfromtext('point(1 2)', 3857)"], oracle: wkb, canonical },
    {
      native: "point",
      values: ["st_geomfromtext('point(1 2)', 3857)", "st_geomfromtext('point(-0.5 1e9)')"],
      oracle: wkb,
      canonical,
    },
  ];
}
