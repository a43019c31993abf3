// The strip of commits below the header.

export function drawStrip(place) {
  place.hidden = true;
}
