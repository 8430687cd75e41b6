"use strict";
// The page is whole without this: it finds words in it.
(() => {
  const articles = [...document.querySelectorAll("article")].map((article) => [article, article.textContent.toLowerCase()]);
  const sections = [...document.querySelectorAll("main > section")];
  const filter = document.getElementById("filter");
  const found = document.getElementById("found");
  const find = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const [article, text] of articles) {
      const fits = words.every((word) => text.includes(word));
      article.hidden = !fits;
      count += fits;
    }
    for (const section of sections) {
      const own = section.querySelectorAll("article");
      section.hidden = words.length > 0 && own.length > 0 && !section.querySelector("article:not([hidden])");
    }
    found.textContent = words.length ? `${count} found` : "";
  };
  filter.addEventListener("input", find);
  document.getElementById("search").hidden = false;
})();
