// Filters and sorts: their names, their values, and what the address says.

export const STATUS = { new: "New", in_progress: "In progress", review: "In review", done: "Done" };
export const SPLITS = { train: "Training", val: "Validation", test: "Test" };
export const FLAGS = { none: "None of these", unsure: "Unsure", skip: "Skipped" };
const MEDIA = { image: "Images", video: "Videos", volume: "Volumes" };

export const SORTS = {
  "": "Newest last", "-time": "Newest first", name: "Name", "-name": "Name, backwards",
  "-confidence": "Most confident", confidence: "Least confident", random: "Random",
  uncertain: "Most uncertain", diverse: "Most diverse", likely_wrong: "Most likely wrong",
};

const YES = { 1: "yes" };
const options = (table) => () => Object.entries(table).map(([value, text]) => ({ value, text }));
const classOptions = ({ classes }) => classes.map((item) => ({ value: String(item.id), text: item.name, colour: item.colour }));

/** The filters: `choose(project)` gives the values of a list; `type` is the field of the others. */
export const FILTERS = {
  class: { text: "Class", several: true, choose: classOptions },
  untagged: { text: "Untagged by me", choose: options(YES) },
  status: { text: "Status", several: true, choose: options(STATUS) },
  split: { text: "Split", several: true, choose: options(SPLITS) },
  predicted: { text: "Prediction", several: true, choose: classOptions },
  confidence_min: { text: "Confidence at least", type: "number", step: "0.01", max: 1 },
  confidence_max: { text: "Confidence at most", type: "number", step: "0.01", max: 1 },
  disagrees: { text: "Tag and prediction differ", choose: options(YES) },
  disputed: { text: "Taggers disagree", choose: options(YES) },
  flag: { text: "Answer", several: true, choose: options(FLAGS) },
  tagged_by: { text: "Tagged by", several: true, choose: ({ users }) => (users ?? []).map((user) => ({ value: String(user.id), text: user.name })) },
  finding: { text: "Audit finding", several: true, choose: ({ info }) => Object.entries(info.findings ?? {}).map(([value, count]) => ({ value, text: value.replaceAll("_", " "), hint: count })) },
  near_duplicates: { text: "Near duplicates", choose: options(YES) },
  media: { text: "Kind of file", several: true, choose: options(MEDIA) },
  folder: { text: "Folder", type: "text" },
  since: { text: "Uploaded since", type: "date" },
  until: { text: "Uploaded until", type: "date" },
};

/** Keys that are set elsewhere than in the menu of filters. */
const OTHERS = { text: "Text", cluster: "Near-duplicate group", cell: "Confusion", ids: "Images" };

/** The parameters of an address that choose and order images; others are left out. */
export function filterOf(query) {
  const kept = new URLSearchParams();
  for (const [key, value] of query) {
    if ((key in FILTERS || key in OTHERS || key === "sort") && value !== "") kept.append(key, value);
  }
  return kept;
}

/** The filter as the API's bulk calls take it: lists where a key is repeated. */
export function filterBody(query) {
  const body = {};
  for (const [key, value] of filterOf(query)) {
    if (key === "sort") continue;
    if (FILTERS[key]?.several) (body[key] ??= []).push(value);
    else body[key] = value;
  }
  return body;
}

/** What is filtered by, as chips: `[{key, text, without}]` where `without` is the query without it. */
export function chips(query, project) {
  const found = new Map();
  for (const [key, value] of filterOf(query)) {
    if (key === "sort" || key === "text") continue;
    found.set(key, [...(found.get(key) ?? []), value]);
  }
  return [...found].map(([key, values]) => {
    const without = new URLSearchParams(query);
    without.delete(key);
    return { key, text: describe(key, values, project), without };
  });
}

function describe(key, values, project) {
  const filter = FILTERS[key];
  if (key === "cell") {
    const [run, row, column] = values[0].split(":");
    return `Run ${run}, tag ${row}, prediction ${column}`;
  }
  if (!filter) return `${OTHERS[key]} ${values.join(", ")}`;
  if (filter.type === "date") return `${filter.text} ${new Date(Number(values[0]) * 1000).toLocaleDateString("en-GB")}`;
  if (filter.type) return `${filter.text} ${values[0]}`;
  const known = filter.choose(project);
  const texts = values.map((value) => known.find((option) => option.value === value)?.text ?? value);
  return texts.join() === "yes" ? filter.text : `${filter.text}: ${texts.join(" or ")}`;
}

/** The query with a key set to values (none: without it). */
export function withKey(query, key, values) {
  const next = new URLSearchParams(query);
  next.delete(key);
  for (const value of values) next.append(key, value);
  return next;
}
