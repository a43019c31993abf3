// From times to places on the strip and back; no drawing.

const STEPS = [1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 2419200,
  7776000, 31536000].map((seconds) => seconds * 1000);

export function scaleOf(start, end, width) {
  const span = Math.max(1, end - start);
  return {
    start, end, width,
    place: (time) => ((time - start) / span) * width,
    time: (place) => start + (place / width) * span,
  };
}

// Bars by the square root of their commits, so that one busy night does not flatten all others.
export function barsOf(activity, scale, height) {
  const most = Math.max(1, ...activity.buckets.map((bucket) => bucket.commits));
  const wide = activity.bucket_seconds * 1000;
  return activity.buckets.map((bucket) => {
    const start = Date.parse(bucket.start);
    const left = scale.place(start);
    const tall = Math.max(2, Math.sqrt(bucket.commits / most) * height);
    return {
      bucket, start, left,
      width: Math.max(1, scale.place(start + wide) - left - 1),
      top: height - tall,
      height: tall,
    };
  });
}

export function axisOf(scale, most) {
  const step = STEPS.find((one) => (scale.end - scale.start) / one <= most) ?? STEPS.at(-1);
  const places = [];
  for (let time = Math.ceil(scale.start / step) * step; time < scale.end; time += step) {
    places.push({ time, place: scale.place(time), text: axisText(time, step) });
  }
  return places;
}

function axisText(time, step) {
  const text = new Date(time).toISOString();
  if (step >= 31536000000) return text.slice(0, 4);
  if (step >= 86400000) return text.slice(5, 10);
  if (step >= 60000) return text.slice(11, 16);
  return text.slice(11, 19);
}

// `2026-11-05 02:41`, in UTC.
export function minuteOf(time) {
  return new Date(time).toISOString().slice(0, 16).replace("T", " ");
}
