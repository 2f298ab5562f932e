/** Types and values beside those of postgres-edge-values.ts: extensions, domains, nested types, extremes. */
import { postgresMajor } from "../run/services.ts";

export const FURTHER_TYPES = `
  create extension hstore; create extension citext; create extension ltree;
  create domain positive as int check (value > 0);
  create domain label as varchar(20) not null default '';
  create domain money_amount as numeric(20, 4);
  create domain corners as box[];
  create type moods as enum ('x', 'y');
  create type nested as (p pair, m moods, tags text[], at timestamptz, n numeric);
  create domain checked as nested check ((value).n is distinct from 0)`;

const many = Array.from({ length: 300 }, (_, i) => i);

export const furtherValues: readonly (readonly [native: string, values: readonly string[]])[] = [
  ["box[]", ["{(1,2),(0,0);(3,4),(1,1)}", "{}", "{NULL}", "[0:1]={(1,2),(0,0);NULL}"]],
  ["corners", ["{(1,2),(0,0);(3,4),(1,1)}"]],
  ["box", ["(1,2),(0,0)"]],
  ["line", ["{1,-1,0}"]],
  ["lseg", ["[(1,2),(3,4)]"]],
  ["circle", ["<(1,2),3>", "<(Infinity,NaN),1e300>"]],
  ["polygon", ["((0,0),(1,0),(1,1))"]],
  ["point", ["(NaN,-Infinity)", "(-0,1e-300)"]],
  ["point[]", ['{"(1,2)",NULL}']],
  ["hstore", ["", 'a=>1, "b c"=>NULL, "q\\"q"=>"x=>y"', '""=>""']],
  ["citext", ["MixedCase", ""]],
  ["ltree", ["Top.Science.Astronomy", ""]],
  ["lquery", ["*.Science{1,2}.!x|y@*"]],
  ["positive", ["1", "2147483647"]],
  ["positive[]", ["{1,NULL,3}", "[2:3]={5,6}"]],
  ["money_amount", ["-9999999999999999.9999", "0.0000"]],
  ["money_amount[]", ["{1.5,NULL}"]],
  ["nested", ['("(1,x)",x,"{a,NULL}","2024-01-01 00:00:00+00",1.50)', "(,,,,)"]],
  ["checked", ['("(1,x)",x,"{a,NULL}","2024-01-01 00:00:00+00",NaN)']],
  ["nested[]", ['{"(\\"(1,x)\\",y,,,-Infinity)",NULL}']],
  ["money", ["92233720368547758.07", "-92233720368547758.08", "0"]],
  ["money[]", ["{1.5,-1234.5,NULL}"]],
  [
    "interval",
    [
      "-178000000 years",
      // Intervals without end came with Postgres 17.
      ...(postgresMajor() < 17 ? [] : ["infinity", "-infinity"]),
      "00:00:00.000001",
      "-1 mons +1 day -00:00:01",
      "100000:00:00",
      "1 day -1 sec",
    ],
  ],
  ["interval year to month", ["1-2"]],
  ["interval second(2)", ["59.999"]],
  ["inet", ["2001:db8::ff00:42:8329/64", "0.0.0.0/0", "192.168.0.1", "::ffff:1.2.3.4/96"]],
  ["inet[]", ["{192.168.0.1,10.0.0.0/8,NULL}"]],
  ["cidr", ["::/0", "192.168.100.128/25"]],
  ["macaddr[]", ["{08:00:2b:01:02:03}"]],
  ["timetz", ["00:00:00-15:59:59", "23:59:59.999999+15:59:59"]],
  ["int4range", ["(,5]", "[-2147483648,2147483647)"]],
  ["int8range", ["[-9223372036854775808,9223372036854775807)"]],
  ["numrange", ["(1.10,2.000]", "[NaN,NaN]", "(-Infinity,Infinity)"]],
  ["tsrange", ['["2024-01-01 00:00:00","2024-01-02 12:30:00.5"]', "[-infinity,infinity)"]],
  ["tstzrange", ['("0044-03-15 12:00:00+00 BC",infinity]']],
  ["daterange", ["[2024-01-01,2024-01-31]", "empty"]],
  ["int4range[]", ['{"[1,2)",empty,NULL}']],
  ["nummultirange", ["{[1.1,2.2),(3,4]}"]],
  ["tstzmultirange", ['{["2024-01-01 00:00:00+00","2024-01-02 00:00:00+00"),[infinity,)}']],
  ["datemultirange", ["{[2024-01-01,2024-01-31),[2025-01-01,)}"]],
  ["bit(1)", ["0"]],
  ["bit(64)", ["1".repeat(64)]],
  ["varbit", ["01".repeat(5_000)]],
  ["bit(3)[]", ["{101,NULL,000}"]],
  ["tsvector", ["", "'\\\\':1 'it''s':2A,3B 'é':16383"]],
  ["tsquery", ["", "'a':*A <-> 'b' | !('c' & 'd')"]],
  ["xml", ["text only", '<?xml version="1.0" encoding="utf-8"?><a/>', "<a><![CDATA[<&>]]></a>", "<é/>"]],
  ["pg_lsn", ["0/0", "FFFFFFFF/FFFFFFFF"]],
  ["oid", ["0", "2147483648"]],
  ["oid[]", ["{0,4294967295}"]],
  ['"char"', ["\\377", "\\001", '"', "\\\\"]],
  ['"char"[]', ['{a,NULL,"\\"",","}']],
  ["name", ['"; drop', "x".repeat(63)]],
  ["xid8", ["18446744073709551615"]],
  ["tid", ["(0,1)"]],
  ["regclass", ["pg_class"]],
  ["pg_snapshot", ["10:20:10,14,15"]],
  [
    "jsonb",
    ['{"": {"__proto__": [1e-7, -0.0, 1E+20]}}', "[]", "{}", `[${many.join(",")}]`, `"${"\\u00e9".repeat(3_000)}"`],
  ],
  ["json", ['{"a":\n{"__proto__":null,"":"\\ud83d\\ude80"}}', "-0", "1E400", '"\\u0000"']],
  ["numeric", ["1e1000", `-${"7".repeat(50)}`, `1.${"0".repeat(50)}`, "0.000000", `${"1".repeat(3_000)}.5`, "1e-1000"]],
  ["numeric(50,10)", [`${"9".repeat(40)}.${"9".repeat(10)}`, "NaN"]],
  ["numeric(1000,0)", ["8".repeat(1_000)]],
  ["text[]", [`{${many.map((i) => `"${i} ,"`).join(",")}}`, '[-5:-4]={"",NULL}', "{{{a},{b}},{{c},{NULL}}}"]],
  ["timestamptz[]", ["{}", '[0:0]={"0001-01-01 00:00:00+00 BC"}']],
  ["bytea", [`\\x${"00".repeat(70_000)}`, "\\x5c783030", "\\x27"]],
  ["bpchar[]", ['{"a ","  "}']],
  ["varchar(3)[]", ['{abc,"",NULL}']],
  ["float4[]", ["{-0,NaN,Infinity,1e-45}"]],
];
