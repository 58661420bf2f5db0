// The HTTP interface as a page, from the server's own openapi.json.
const made = (name, text = "") => { const element = document.createElement(name); element.textContent = text; return element; };
const document_ = await (await fetch(new URL("openapi.json", document.baseURI))).json();
const named = (schema) => schema?.$ref?.split("/").pop() ?? (schema?.anyOf ? schema.anyOf.map(named).join(" or ") : schema?.type === "array" ? `list of ${named(schema.items)}` : schema?.type ?? "any");

function table(rows) {
  const out = made("table");
  for (const cells of rows) { const row = made("tr"); row.append(...cells.map((cell) => made("td", cell))); out.append(row); }
  return out;
}

document.getElementById("version").textContent = document_.info.version;
document.getElementById("summary").textContent = document_.info.summary;
for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
const routes = document.getElementById("routes");
routes.append(made("h2", "Routes"));
for (const [path, methods] of Object.entries(document_.paths)) for (const [method, route] of Object.entries(methods)) {
  const section = made("section"), head = made("h3");
  head.append(made("b", method.toUpperCase()), path);
  section.append(head, made("p", route.description ?? ""));
  const asked = (route.parameters ?? []).map((one) => [`${one.name}${one.required ? "" : "?"}`, `${one.in}: ${named(one.schema)}. ${one.description ?? one.schema.description ?? ""}`]);
  for (const [type, body] of Object.entries(route.requestBody?.content ?? {})) asked.push([`body ${type}`, body.schema.description ?? named(body.schema)]);
  if (asked.length) section.append(table(asked));
  const more = made("details");
  more.append(made("summary", "Answers"), table(Object.entries(route.responses).map(([status, answer]) => [status, `${answer.description}: ${Object.entries(answer.content ?? {}).map(([type, body]) => (body.schema ? `${type} ${named(body.schema)}` : type)).join(", ")}`])));
  section.append(more);
  routes.append(section);
}
routes.append(made("h2", "Answers"));
for (const [name, schema] of Object.entries(document_.components.schemas)) {
  const section = made("section");
  section.append(made("h3", name), made("p", schema.description ?? ""));
  section.append(table(Object.entries(schema.properties ?? {}).map(([field, part]) => [field, `${named(part)}. ${part.description ?? ""}`])));
  routes.append(section);
}
