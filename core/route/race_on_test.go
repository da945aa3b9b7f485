//go:build race

package route

// raceDetector says that garbage cannot be counted: sync.Pool then forgets at random.
const raceDetector = true
