import { lakeConformance } from "./lake.ts";

lakeConformance("postgres", ["values", "progress", "fence"]);
