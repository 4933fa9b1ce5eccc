(function () {
  "use strict";
  var form = document.getElementById("filter");
  if (!form) return;
  var cards = Array.prototype.slice.call(document.querySelectorAll(".card"));
  var nothing = document.getElementById("nothing");
  function apply() {
    var type = form.elements.type.value, label = form.elements.label.value, shown = 0;
    cards.forEach(function (card) {
      var fits = (!type || card.dataset.type === type) && (!label || card.dataset.label === label);
      card.hidden = !fits;
      if (fits) shown += 1;
    });
    form.querySelector("output").textContent = shown + " shown";
    nothing.hidden = shown > 0;
  }
  form.addEventListener("change", apply);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.hidden = false;
  apply();
})();
