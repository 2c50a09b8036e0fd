axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
  resultTypes: ["violations"],
  iframes: false,
  preload: false, // waits for the metadata of media that never come
}).then((result) => result.violations.map(({ id, impact, help, nodes }) => ({
  id, impact, help, nodes: nodes.slice(0, 10).map((node) => node.target.join(" ").slice(0, 200)), count: nodes.length,
})))
