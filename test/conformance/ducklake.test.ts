import { isLongForm } from "../support/service-suffixes.ts";
import { lakeConformance } from "./lake.ts";

lakeConformance("sqlite", ["values", "progress", "fence", "rows", "unchanged cells", "tables"]);
if (isLongForm()) lakeConformance("duckdb", []);
